//! What README.md tells newcomers to write is what this workspace is.

use std::fs;
use std::path::Path;

use toml::de::{DeTable, DeValue};

/// The value behind some keys.
fn find<'a>(mut table: &'a DeTable<'a>, keys: &[&str]) -> Option<&'a DeValue<'a>> {
    let (last, way) = keys.split_last().expect("a key");
    for key in way {
        table = table.get(*key)?.get_ref().as_table()?;
    }
    Some(table.get(*last)?.get_ref())
}

#[test]
fn the_dependencies_in_the_readme_are_those_of_this_workspace() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let (_, block) = readme.split_once("```toml\n").expect("a block");
    let (block, _) = block.split_once("```").expect("its end");
    let written = DeTable::parse(block).unwrap();
    let workspace = DeTable::parse(&manifest).unwrap();

    let path = find(written.get_ref(), &["dependencies", "lendfile", "path"]);
    let path = path.and_then(DeValue::as_str).expect("a path");
    let path = path.strip_prefix("../lendfile/").expect("in the clone");
    assert!(root.join(path).join("Cargo.toml").exists(), "{path}");

    let version = |table: &DeTable<'_>, keys: &[&str]| {
        let keys_of_table = [keys, &["version"]].concat();
        let version = find(table, &keys_of_table).or_else(|| find(table, keys));
        version.and_then(DeValue::as_str).map(str::to_owned)
    };
    for name in ["axum", "tokio"] {
        let told = version(written.get_ref(), &["dependencies", name]);
        let ours = version(workspace.get_ref(), &["workspace", "dependencies", name]);
        assert!(told.is_some() && told == ours, "{name}: {told:?}, {ours:?}");
    }
    let rust = version(
        workspace.get_ref(),
        &["workspace", "package", "rust-version"],
    );
    let rust = rust.expect("a version");
    assert!(readme.contains(&format!("Rust {rust}")), "{rust}");
    let features = fs::read_to_string(root.join(path).join("Cargo.toml")).unwrap();
    for feature in ["axum", "tls"] {
        assert!(readme.contains(&format!("`{feature}` for `")));
        assert!(features.contains(&format!("\n{feature} = [")), "{feature}");
    }
}
