//! From facts to conclusions, with what to do about each that is not good.

mod machine;
mod process;

use super::report::{Area, Finding, Mark, Report};

/// Every finding, in the order in which they are printed.
pub fn all(report: &Report) -> Vec<Finding> {
    let mut findings = Findings::default();
    machine::kernel(report, &mut findings.about(Area::Machine));
    machine::privileges(report, &mut findings.about(Area::Privileges));
    machine::sources(report, &mut findings.about(Area::Sockets));
    process::process(report, &mut findings.about(Area::Process));
    if let Some(process) = &report.process {
        process::tls(process, &mut findings.about(Area::Tls));
    }
    findings.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn about(&mut self, area: Area) -> Section<'_> {
        Section { area, findings: &mut self.0 }
    }
}

/// Takes the findings about one area.
struct Section<'a> {
    area: Area,
    findings: &'a mut Vec<Finding>,
}

impl Section<'_> {
    fn ok(&mut self, subject: &str, text: impl Into<String>) {
        self.add(Mark::Ok, subject, text.into(), None);
    }

    fn warn(&mut self, subject: &str, text: impl Into<String>, cure: &str) {
        self.add(Mark::Warn, subject, text.into(), Some(cure));
    }

    fn fail(&mut self, subject: &str, text: impl Into<String>, cure: &str) {
        self.add(Mark::Fail, subject, text.into(), Some(cure));
    }

    fn add(&mut self, mark: Mark, subject: &str, text: String, cure: Option<&str>) {
        let cure = cure.map(str::to_owned);
        self.findings.push(Finding { mark, area: self.area, subject: subject.to_owned(), text, cure });
    }
}

#[cfg(test)]
mod tests;
