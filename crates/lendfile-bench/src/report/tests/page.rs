//! The report in a browser: nothing on the console, every plot with its marks, no text upon other
//! text, nothing cut off, on a phone and on a desktop.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use lendfile_tests::browser::Browser;

use super::*;

/// Widths of a phone and of a desktop.
const WIDTHS: [u32; 2] = [400, 1400];

/// Loads the report in a frame of a width and writes down what it finds.
const INSPECTOR: &str = r#"<!doctype html><meta charset="utf-8"><title>inspector</title>
<link rel="icon" href="data:,">
<iframe id="frame" src="/report" style="width:WIDTHpx;height:900px;border:0"></iframe>
<pre id="found"></pre>
<script>
addEventListener("load", () => {
  const page = document.getElementById("frame").contentDocument;
  const problems = [], overlap = (a, b) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 &&
    Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  const apart = (elements, where) => {
    const boxes = elements.map(it => [it.getBoundingClientRect(), it.textContent.slice(0, 30)]);
    boxes.forEach(([a, name], i) => boxes.slice(i + 1).forEach(([b, other]) => {
      if (overlap(a, b)) problems.push(`${where}: "${name}" overlaps "${other}"`);
    }));
  };
  const marks = [];
  for (const figure of page.querySelectorAll("figure")) {
    const svg = figure.querySelector("svg"), frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")];
    marks.push(svg.querySelectorAll("rect").length);
    apart(texts, figure.getAttribute("aria-label"));
    for (const text of texts) {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 ||
          box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        problems.push(`cut off: ${text.textContent}`);
      if (box.height < 6) problems.push(`too small: ${text.textContent}`);
    }
  }
  apart([...page.querySelectorAll("h1,h2,p,dt,dd,li,figcaption,svg,.scroll")], "page");
  if (page.documentElement.scrollWidth > WIDTH) problems.push("the page is wider than its frame");
  const scripts = page.querySelectorAll("script").length;
  if (scripts) problems.push("a name has become a script");
  const regions = [...page.querySelectorAll(".scroll")];
  if (!regions.every(region => region.tabIndex === 0)) problems.push("a table without the keyboard");
  document.getElementById("found").textContent =
    JSON.stringify({marks, problems, tables: regions.length});
});
</script>"#;

/// Serves the report, and an inspector of each width at `/WIDTH`.
fn serve(report: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let report = report.clone();
            thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut request = [0; 8192];
                let count = stream.read(&mut request).unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..count]).into_owned();
                let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
                let body = match path.as_str() {
                    "/report" => report,
                    width => INSPECTOR.replace("WIDTH", &width[1..]),
                };
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                // The browser may open connections that it does not use.
                let _ = stream.write_all((head + &body).as_bytes());
            });
        }
    });
    address
}

#[test]
fn the_page_is_whole_on_a_phone_and_on_a_desktop() {
    let Some(browser) = Browser::find() else {
        return;
    };
    let address = serve(example().to_html());
    for width in WIDTHS {
        let visit = browser.visit(address, &format!("/{width}"));
        assert_eq!(visit.console, [""; 0], "{width}");
        let found = visit.dom.split("<pre id=\"found\">").nth(1);
        let found = found.and_then(|rest| rest.split("</pre>").next());
        let found: Value = serde_json::from_str(found.unwrap_or("")).unwrap_or_else(|error| {
            panic!("{error}: {}", visit.dom);
        });
        // Warm: speed and processor time of six. Cold: the same, and stalls of two.
        assert_eq!(
            found["marks"],
            serde_json::json!([6, 6, 6, 6, 2]),
            "{width}"
        );
        assert_eq!(found["tables"], 3, "{width}");
        assert_eq!(found["problems"], serde_json::json!([]), "{width}");
    }
}
