//! The report for people: one line a finding, and below it what to do.

use std::fmt::Write as _;

use super::report::{Area, Finding, Mark, Report};

const RESET: &str = "\x1b[0m";

/// All findings, and the verdict.
pub fn print(report: &Report, colour: bool) -> String {
    let width = report.findings.iter().map(|finding| finding.subject.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    let mut area = None;
    for finding in &report.findings {
        if area.replace(finding.area) != Some(finding.area) {
            let blank = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{blank}{}", title(finding.area, report));
        }
        line(&mut text, finding, width, colour);
    }
    let count = |mark| report.findings.iter().filter(|finding| finding.mark == mark).count();
    let verdict = if report.ok { "tracing works here" } else { "tracing does not work" };
    let _ = writeln!(text, "\n{verdict}: {} failed, {} warnings", count(Mark::Fail), count(Mark::Warn));
    text
}

fn line(text: &mut String, finding: &Finding, width: usize, colour: bool) {
    let (mark, paint) = match finding.mark {
        Mark::Ok => ("ok  ", "\x1b[32m"),
        Mark::Warn => ("warn", "\x1b[33m"),
        Mark::Fail => ("FAIL", "\x1b[31m"),
    };
    let (paint, reset) = if colour { (paint, RESET) } else { ("", "") };
    let _ =
        writeln!(text, "  {paint}{mark}{reset}  {:<width$}  {}", printable(&finding.subject), printable(&finding.text));
    if let Some(cure) = &finding.cure {
        let _ = writeln!(text, "  {:6}{:<width$}  -> {}", "", "", printable(cure));
    }
}

fn title(area: Area, report: &Report) -> String {
    match (area, &report.process) {
        (Area::Machine, _) => "kernel".into(),
        (Area::Privileges, _) => "privileges".into(),
        (Area::Sockets, _) => "sources of socket data".into(),
        (Area::Process, Some(process)) => format!("process {} ({})", process.pid, printable(&process.comm)),
        (Area::Process, None) => "process".into(),
        (Area::Tls, _) => "TLS".into(),
    }
}

/// A path or a name may hold anything; a terminal must not obey it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(mark: Mark, subject: &str, text: &str, cure: Option<&str>) -> Finding {
        Finding { mark, area: Area::Machine, subject: subject.into(), text: text.into(), cure: cure.map(Into::into) }
    }

    #[test]
    fn columns_line_up_and_cures_follow() {
        let mut text = String::new();
        line(&mut text, &finding(Mark::Fail, "BTF", "none", Some("another kernel")), 6, false);
        line(&mut text, &finding(Mark::Ok, "kernel", "6.1", None), 6, false);
        assert_eq!(text, "  FAIL  BTF     none\n                -> another kernel\n  ok    kernel  6.1\n");
    }

    #[test]
    fn colour_only_where_asked_and_no_escapes_from_names() {
        let finding = finding(Mark::Warn, "a", "\x1b[31mred\n", None);
        let (mut plain, mut coloured) = (String::new(), String::new());
        line(&mut plain, &finding, 1, false);
        line(&mut coloured, &finding, 1, true);
        assert!(!plain.contains('\x1b') && plain.lines().count() == 1, "{plain:?}");
        assert!(coloured.starts_with("  \x1b[33mwarn\x1b[0m"), "{coloured:?}");
    }
}
