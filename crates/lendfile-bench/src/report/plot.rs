pub(super) fn standalone(_: &super::Table) -> String {
    String::new()
}
