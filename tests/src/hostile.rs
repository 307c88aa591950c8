//! File names that want to be something else: markup, a script, another path, another line.

/// What none of them may be on a page, as it is.
pub const MARKUP: [&str; 7] = [
    "<script>",
    "<img",
    "<svg",
    "<bdi>'",
    "\" onmouseover",
    "\u{202e}",
    "line\nbreak",
];

/// The names; valid on any Linux file system, and all different.
pub fn names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        "<script>document.title='pwned'<\u{2215}script>",
        "<img src=x onerror=document.title='pwned'>",
        "<bdi>'<a>",
        "<svg onload=document.title='pwned'>",
        "<!--",
        "]]>",
        "\" onmouseover=\"document.title='pwned'",
        "' onmouseover='document.title=1",
        "&lt;script&gt;&amp;&#60;",
        "javascript:document.title='pwned'",
        "data:text,x",
        "http:example.org",
        "line\nbreak",
        "return\rtab\tbell\u{7}",
        "right to left \u{202e}gpj.exe",
        "zero\u{200b}width\u{feff}",
        "a?b=c&d#e",
        "%2e%2e%2fsecret",
        "100%",
        "%",
        "back\\slash\\..\\x",
        "\\\\host\\share",
        " leading and trailing ",
        "...",
        "~",
        "+plus+",
        ";semi;colon",
        "combining e\u{301}, emoji 👩\u{200d}🚀, עברית",
        "{{7*7}} ${7*7} <%= 7 %>",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    // Hidden otherwise.
    .map(|name| match name.starts_with(b".") {
        true => [b"_", &*name].concat(),
        false => name,
    })
    .collect();
    names.push(b"\xff\xfe not UTF-8 \x80".to_vec());
    names.push(b"\xc0\xaf overlong".to_vec());
    names.push(vec![b'x'; 255]);
    names.push("<&\">".repeat(63).into_bytes());
    names
}
