//! Which records are printed.
//!
//! Flags of different kinds must all hold; of several values of one flag, one must. A record that does not have what a
//! flag asks for (no response, so no status; bytes missing, so no latency) is not selected by it: what is printed is
//! known to match. Values are compared after redaction.

use std::time::Duration;

use clap::Args;
use protocols::registry;
use wildmatch::WildMatch;

use crate::record::{ConnectionInfo, Endpoint, Record, Role};

/// Stands over the flags. (clap's `next_help_heading` would also catch the flags of who flattens them.)
const HEADING: &str = "Filters (all must match; of several values of one, any)";

/// Flags that select records.
#[derive(Args, Clone, Debug, Default)]
pub struct FilterArgs {
    /// Only these methods, commands or query types: GET, HSET, SELECT, AAAA
    #[arg(help_heading = HEADING)]
    #[arg(long = "method", visible_alias = "operation", value_name = "NAME", value_delimiter = ',')]
    pub methods: Vec<String>,

    /// Only requests for what matches this pattern: URL path, key, statement, domain name. `*` stands for
    /// anything, `?` for one character: '/api/*', '*.example.com'. May be given several times
    #[arg(help_heading = HEADING, long = "path", visible_alias = "target", value_name = "GLOB")]
    pub targets: Vec<String>,

    /// Only these response statuses: 404, 5xx, NXDOMAIN, an SQLSTATE; `error` for every failed one, `none` for
    /// requests that got no response
    #[arg(help_heading = HEADING)]
    #[arg(long = "status", value_name = "STATUS", value_delimiter = ',', value_parser = StatusPattern::parse)]
    pub statuses: Vec<StatusPattern>,

    /// Only requests that took at least this long: 50ms, 1.5s, 200us. Where the latency is unknown (no response, bytes
    /// missing) the record is not shown
    #[arg(help_heading = HEADING, long, value_name = "TIME", value_parser = parse_duration)]
    pub min_latency: Option<Duration>,

    /// Only connections with this port at either end
    #[arg(help_heading = HEADING, long = "port", value_name = "PORT", value_delimiter = ',')]
    pub ports: Vec<u16>,

    /// Only these protocols; no other is looked for
    #[arg(help_heading = HEADING)]
    #[arg(long = "protocols", visible_alias = "protocol", value_name = "NAME", value_delimiter = ',', value_parser = parse_protocol)]
    pub protocols: Vec<&'static str>,

    /// Only requests that the process answers (server) or sends (client)
    #[arg(help_heading = HEADING, long, value_name = "ROLE")]
    pub role: Option<Role>,
}

/// What `--status` may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusPattern {
    /// The response says that the request failed.
    Failed,
    /// No response was seen.
    Missing,
    /// Three digits of which this is the first.
    Class(char),
    /// This very status, in capital or small letters.
    Name(String),
}

impl StatusPattern {
    /// Reads one value of `--status`.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let lower = text.to_ascii_lowercase();
        Ok(match lower.as_bytes() {
            [] => return Err(FilterError::EmptyStatus),
            b"error" => Self::Failed,
            b"none" => Self::Missing,
            [digit @ b'1'..=b'9', b'x', b'x'] => Self::Class(char::from(*digit)),
            _ => Self::Name(lower),
        })
    }

    fn matches(&self, record: &Record<'_>) -> bool {
        let response = record.response_summary();
        let status = response.status.as_deref();
        match self {
            Self::Failed => response.failed,
            Self::Missing => record.exchange().response.is_none(),
            Self::Class(first) => status.is_some_and(|status| {
                status.len() == 3 && status.starts_with(*first) && status.bytes().all(|byte| byte.is_ascii_digit())
            }),
            Self::Name(name) => status.is_some_and(|status| status.eq_ignore_ascii_case(name)),
        }
    }
}

/// A value of a filter flag that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// `--status` without a status.
    #[error("a status is empty")]
    EmptyStatus,
    /// `--min-latency` with something that is not a time.
    #[error("not a time: write a number and ns, us, ms, s or m, as in 50ms")]
    Duration,
    /// `--protocol` with a name that does not exist.
    #[error("no such protocol; there are: {known}")]
    Protocol {
        /// Every name that exists.
        known: String,
    },
}

/// Selects records.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    args: FilterArgs,
    targets: Vec<WildMatch>,
}

impl From<FilterArgs> for Filter {
    fn from(args: FilterArgs) -> Self {
        let targets = args.targets.iter().map(|pattern| WildMatch::new(pattern)).collect();
        Self { args, targets }
    }
}

impl Filter {
    /// Whether the record is to be printed. The caller counts those that are not.
    pub fn accepts(&self, record: &Record<'_>) -> bool {
        let Self { args, targets } = self;
        let connection = record.connection();
        args.role.is_none_or(|role| role == connection.role)
            && any(&args.protocols, |name| *name == record.exchange().protocol)
            && any(&args.ports, |port| has_port(connection, *port))
            && args.min_latency.is_none_or(|minimum| lasted(record, minimum))
            && self.accepts_request(record, targets)
            && any(&args.statuses, |status| status.matches(record))
    }

    fn accepts_request(&self, record: &Record<'_>, targets: &[WildMatch]) -> bool {
        let methods = &self.args.methods;
        if methods.is_empty() && targets.is_empty() {
            return true;
        }
        let request = record.request_summary();
        let (operation, target) = (request.operation.as_deref(), request.target.as_deref());
        any(methods, |method| operation.is_some_and(|operation| operation.eq_ignore_ascii_case(method)))
            && any(targets, |pattern| target.is_some_and(|target| pattern.matches(target)))
    }
}

/// Whether a flag that was given these values holds: it was not given, or one of them matches.
fn any<T>(values: &[T], matches: impl FnMut(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(matches)
}

fn has_port(connection: &ConnectionInfo, port: u16) -> bool {
    [connection.known_local(), connection.known_remote()]
        .into_iter()
        .flatten()
        .any(|end| matches!(end, Endpoint::Inet(address) if address.port() == port))
}

fn lasted(record: &Record<'_>, minimum: Duration) -> bool {
    record.latency_ns().is_some_and(|latency| Duration::from_nanos(latency) >= minimum)
}

/// Reads a time such as `50ms`, `1.5s`, `200us`.
pub fn parse_duration(text: &str) -> Result<Duration, FilterError> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(FilterError::Duration)?;
    let (number, unit) = text.split_at(digits);
    let seconds = match unit.trim_start() {
        "ns" => 1e-9,
        "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err(FilterError::Duration),
    };
    let number: f64 = number.parse().map_err(|_| FilterError::Duration)?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| FilterError::Duration)
}

/// The names of the protocols, each once: two versions of HTTP share one.
fn known_names() -> String {
    let names = registry::ALL.iter().flat_map(|registration| registration.names).copied();
    names.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
}

/// Reads the name of a protocol.
pub fn parse_protocol(text: &str) -> Result<&'static str, FilterError> {
    let names = || registry::ALL.iter().flat_map(|registration| registration.names);
    names()
        .find(|name| name.eq_ignore_ascii_case(text))
        .copied()
        .ok_or_else(|| FilterError::Protocol { known: known_names() })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser};
    use protocols::{Exchange, Reason};

    use super::*;
    use crate::output::testing::{connection, exchange, get, origin, process, request, response};
    use crate::record::{Redaction, TupleSource};

    /// Traces
    #[derive(Parser, Debug)]
    struct Cli {
        #[command(flatten)]
        filter: FilterArgs,
        /// A flag of who flattens the filters.
        #[arg(long)]
        other: bool,
    }

    fn filter(flags: &[&str]) -> Filter {
        Cli::try_parse_from([&["tracer"], flags].concat()).unwrap().filter.into()
    }

    fn accepts_on(filter: &Filter, mut exchange: Exchange, connection: &ConnectionInfo) -> bool {
        let process = process();
        filter.accepts(&Record::new(&mut exchange, origin(&process, connection), Redaction::On))
    }

    fn accepts(flags: &[&str], exchange: Exchange) -> bool {
        accepts_on(&filter(flags), exchange, &connection())
    }

    fn asked(method: &'static str, target: &str) -> Exchange {
        exchange(request(method, target), response("200", 412_345))
    }

    fn answered(status: &'static str) -> Exchange {
        exchange(request("GET", "/"), response(status, 412_345))
    }

    #[test]
    fn the_filters_keep_to_their_own_part_of_the_help() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.starts_with("Traces\n"), "{help}");
        let (others, filters) = help.split_once(HEADING).unwrap();
        assert!(others.contains("--other") && !others.contains("--status"), "{help}");
        assert!(filters.contains("--status") && !filters.contains("--other"), "{help}");
    }

    #[test]
    fn no_flag_accepts_everything() {
        assert!(accepts(&[], get()));
        assert!(accepts(&[], Exchange { request: None, response: None, ..get() }));
    }

    #[test]
    fn methods() {
        for (flags, accepted) in [
            (&["--method", "GET"][..], true),
            (&["--method", "get"], true),
            (&["--operation", "POST,GET"], true),
            (&["--method", "POST", "--method", "GET"], true),
            (&["--method", "POST"], false),
            (&["--method", "GE"], false),
        ] {
            assert_eq!(accepts(flags, get()), accepted, "{flags:?}");
        }
        assert!(!accepts(&["--method", "GET"], Exchange { request: None, ..get() }));
    }

    #[test]
    fn targets() {
        for (flags, target, accepted) in [
            (&["--path", "/api/*"][..], "/api/v1/x?y", true),
            (&["--path", "/api/*"], "/apis", false),
            (&["--path", "/a?"], "/ab", true),
            (&["--path", "/a"], "/ab", false),
            (&["--path", "*orders*", "--path", "/x,y"], "/x,y", true),
            (&["--target", "*.example.com"], "a.b.example.com", true),
            (&["--path", "/API"], "/api", false),
        ] {
            assert_eq!(accepts(flags, asked("GET", target)), accepted, "{flags:?} {target}");
        }
        assert!(!accepts(&["--path", "*"], Exchange { request: None, ..get() }));
    }

    #[test]
    fn statuses() {
        for (flags, status, accepted) in [
            (&["--status", "404"][..], "404", true),
            (&["--status", "404"], "400", false),
            (&["--status", "404,5xx"], "503", true),
            (&["--status", "5XX"], "503", true),
            (&["--status", "5xx"], "5", false),
            (&["--status", "4xx"], "42P01", false),
            (&["--status", "42p01"], "42P01", true),
            (&["--status", "nxdomain"], "NXDOMAIN", true),
            (&["--status", "error"], "503", true),
            (&["--status", "error"], "NXDOMAIN", true),
            (&["--status", "error"], "200", false),
            (&["--status", "none"], "200", false),
        ] {
            assert_eq!(accepts(flags, answered(status)), accepted, "{flags:?} {status}");
        }
        let unanswered = || Exchange { response: None, reasons: Reason::NoResponse.into(), ..get() };
        assert!(accepts(&["--status", "none"], unanswered()));
        assert!(accepts(&["--status", "error,none"], unanswered()));
        assert!(!accepts(&["--status", "error"], unanswered()));
        assert!(!accepts(&["--status", "200"], unanswered()));
    }

    #[test]
    fn a_latency_that_is_not_known_is_not_long_enough() {
        assert!(accepts(&["--min-latency", "412us"], get()));
        assert!(accepts(&["--min-latency", "412345ns"], get()));
        assert!(!accepts(&["--min-latency", "412346ns"], get()));
        assert!(!accepts(&["--min-latency", "0ns"], Exchange { response: None, ..get() }));
    }

    #[test]
    fn ports_of_either_end_that_are_known() {
        assert!(accepts(&["--port", "8443"], get()));
        assert!(accepts(&["--port", "1,51522"], get()));
        assert!(!accepts(&["--port", "443"], get()));
        let unknown = ConnectionInfo { tuple_source: TupleSource::None, ..connection() };
        assert!(!accepts_on(&filter(&["--port", "8443"]), get(), &unknown));
    }

    #[test]
    fn roles() {
        assert!(accepts(&["--role", "server"], get()));
        assert!(!accepts(&["--role", "client"], get()));
        let unknown = ConnectionInfo { role: Role::Unknown, ..connection() };
        assert!(accepts_on(&filter(&["--role", "unknown"]), get(), &unknown));
        assert!(!accepts_on(&filter(&["--role", "server"]), get(), &unknown));
    }

    #[test]
    fn protocols_by_their_names() {
        let only = |protocols| Filter::from(FilterArgs { protocols, ..FilterArgs::default() });
        assert!(accepts_on(&only(vec!["dns", "http"]), get(), &connection()));
        assert!(!accepts_on(&only(vec!["dns"]), get(), &connection()));
        let error = Cli::try_parse_from(["tracer", "--protocol", "gopher"]).unwrap_err().to_string();
        assert!(error.contains("no such protocol"), "{error}");
        for name in registry::ALL.iter().flat_map(|registration| registration.names) {
            assert_eq!(parse_protocol(&name.to_uppercase()), Ok(*name));
        }
    }

    #[test]
    fn all_flags_must_hold() {
        let flags = ["--method", "GET", "--path", "/a*", "--status", "2xx", "--port", "8443", "--role", "server"];
        assert!(accepts(&flags, get()));
        for other in [["--min-latency", "1s"], ["--method", "POST"]] {
            let flags: Vec<&str> = flags.iter().copied().filter(|flag| !["--method", "GET"].contains(flag)).collect();
            assert!(!accepts(&[&flags[..], &other[..]].concat(), get()), "{other:?}");
        }
    }

    #[test]
    fn times() {
        for (text, nanoseconds) in [
            ("50ms", Some(50_000_000)),
            ("1.5s", Some(1_500_000_000)),
            ("200us", Some(200_000)),
            ("200µs", Some(200_000)),
            ("7ns", Some(7)),
            ("2m", Some(120_000_000_000)),
            (" 50 ms ", Some(50_000_000)),
            ("50", None),
            ("ms", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("1h30", None),
            ("99999999999999999999999s", None),
            ("", None),
        ] {
            assert_eq!(parse_duration(text).ok(), nanoseconds.map(Duration::from_nanos), "{text}");
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for flags in [["--status", ""], ["--min-latency", "fast"], ["--port", "70000"], ["--role", "proxy"]] {
            assert!(Cli::try_parse_from([&["tracer"], &flags[..]].concat()).is_err(), "{flags:?}");
        }
    }
}
