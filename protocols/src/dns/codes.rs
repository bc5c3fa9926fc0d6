//! Names of the numbers in DNS messages, from the IANA registry "Domain Name System (DNS) Parameters".

use std::fmt;

use serde::{Serialize, Serializer};

/// A number that prints as its registered name, or as `<PREFIX><number>` where it has none (RFC 3597 §5 for types
/// and classes).
macro_rules! code {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, { $($value:literal => $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(super) struct $name(pub(super) u16);

        impl $name {
            /// The registered name.
            pub(super) fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($text),)*
                    _ => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, concat!($prefix, "{}"), self.0),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

code!(
    /// Type of a record or of a question.
    Type, "TYPE", {
        1 => "A", 2 => "NS", 3 => "MD", 4 => "MF", 5 => "CNAME", 6 => "SOA", 7 => "MB", 8 => "MG", 9 => "MR",
        10 => "NULL", 11 => "WKS", 12 => "PTR", 13 => "HINFO", 14 => "MINFO", 15 => "MX", 16 => "TXT", 17 => "RP",
        18 => "AFSDB", 19 => "X25", 20 => "ISDN", 21 => "RT", 22 => "NSAP", 23 => "NSAP-PTR", 24 => "SIG",
        25 => "KEY", 26 => "PX", 27 => "GPOS", 28 => "AAAA", 29 => "LOC", 30 => "NXT", 31 => "EID", 32 => "NIMLOC",
        33 => "SRV", 34 => "ATMA", 35 => "NAPTR", 36 => "KX", 37 => "CERT", 38 => "A6", 39 => "DNAME", 40 => "SINK",
        41 => "OPT", 42 => "APL", 43 => "DS", 44 => "SSHFP", 45 => "IPSECKEY", 46 => "RRSIG", 47 => "NSEC",
        48 => "DNSKEY", 49 => "DHCID", 50 => "NSEC3", 51 => "NSEC3PARAM", 52 => "TLSA", 53 => "SMIMEA", 55 => "HIP",
        56 => "NINFO", 57 => "RKEY", 58 => "TALINK", 59 => "CDS", 60 => "CDNSKEY", 61 => "OPENPGPKEY",
        62 => "CSYNC", 63 => "ZONEMD", 64 => "SVCB", 65 => "HTTPS", 66 => "DSYNC", 99 => "SPF", 100 => "UINFO",
        101 => "UID", 102 => "GID", 103 => "UNSPEC", 104 => "NID", 105 => "L32", 106 => "L64", 107 => "LP",
        108 => "EUI48", 109 => "EUI64", 128 => "NXNAME", 249 => "TKEY", 250 => "TSIG", 251 => "IXFR",
        252 => "AXFR", 253 => "MAILB", 254 => "MAILA", 255 => "ANY", 256 => "URI", 257 => "CAA", 258 => "AVC",
        259 => "DOA", 260 => "AMTRELAY", 261 => "RESINFO", 262 => "WALLET", 263 => "CLA", 264 => "IPN",
        32768 => "TA", 32769 => "DLV",
    }
);

impl Type {
    pub(super) const SOA: Self = Self(6);
    pub(super) const OPT: Self = Self(41);
    pub(super) const IXFR: Self = Self(251);
    pub(super) const AXFR: Self = Self(252);
}

code!(
    /// Class of a record or of a question.
    Class, "CLASS", { 1 => "IN", 3 => "CH", 4 => "HS", 254 => "NONE", 255 => "ANY" }
);

impl Class {
    pub(super) const IN: Self = Self(1);

    /// Splits off the top bit that mDNS uses for "unicast response wanted" (RFC 6762 §18.12) and "flush the cache"
    /// (§18.13). The port is not known here, so the bit counts as mDNS's only where a class that mDNS uses remains.
    pub(super) fn split(wire: u16) -> (Self, bool) {
        match wire {
            0x8001 => (Self(1), true),
            0x80ff => (Self(255), true),
            _ => (Self(wire), false),
        }
    }
}

code!(
    /// Kind of query.
    Opcode, "OPCODE", { 0 => "QUERY", 1 => "IQUERY", 2 => "STATUS", 4 => "NOTIFY", 5 => "UPDATE", 6 => "DSO" }
);

impl Opcode {
    pub(super) const QUERY: Self = Self(0);
    pub(super) const IQUERY: Self = Self(1);
}

code!(
    /// Response code. 16 is BADVERS: a header with EDNS carries it, whereas BADSIG (also 16) stands in a TSIG record.
    Rcode, "RCODE", {
        0 => "NOERROR", 1 => "FORMERR", 2 => "SERVFAIL", 3 => "NXDOMAIN", 4 => "NOTIMP", 5 => "REFUSED",
        6 => "YXDOMAIN", 7 => "YXRRSET", 8 => "NXRRSET", 9 => "NOTAUTH", 10 => "NOTZONE", 11 => "DSOTYPENI",
        16 => "BADVERS", 17 => "BADKEY", 18 => "BADTIME", 19 => "BADMODE", 20 => "BADNAME", 21 => "BADALG",
        22 => "BADTRUNC", 23 => "BADCOOKIE",
    }
);

impl Rcode {
    pub(super) const NOERROR: Self = Self(0);
}

code!(
    /// EDNS option.
    OptionCode, "OPT", {
        1 => "LLQ", 2 => "UL", 3 => "NSID", 5 => "DAU", 6 => "DHU", 7 => "N3U", 8 => "CLIENT-SUBNET",
        9 => "EXPIRE", 10 => "COOKIE", 11 => "TCP-KEEPALIVE", 12 => "PADDING", 13 => "CHAIN", 14 => "KEY-TAG",
        15 => "EDE", 16 => "CLIENT-TAG", 17 => "SERVER-TAG", 18 => "REPORT-CHANNEL", 19 => "ZONEVERSION",
    }
);

code!(
    /// What an extended DNS error says (RFC 8914).
    ExtendedError, "Code ", {
        0 => "Other", 1 => "Unsupported DNSKEY Algorithm", 2 => "Unsupported DS Digest Type", 3 => "Stale Answer",
        4 => "Forged Answer", 5 => "DNSSEC Indeterminate", 6 => "DNSSEC Bogus", 7 => "Signature Expired",
        8 => "Signature Not Yet Valid", 9 => "DNSKEY Missing", 10 => "RRSIGs Missing", 11 => "No Zone Key Bit Set",
        12 => "NSEC Missing", 13 => "Cached Error", 14 => "Not Ready", 15 => "Blocked", 16 => "Censored",
        17 => "Filtered", 18 => "Prohibited", 19 => "Stale NXDOMAIN Answer", 20 => "Not Authoritative",
        21 => "Not Supported", 22 => "No Reachable Authority", 23 => "Network Error", 24 => "Invalid Data",
        25 => "Signature Expired before Valid", 26 => "Too Early", 27 => "Unsupported NSEC3 Iterations Value",
        28 => "Unable to conform to policy", 29 => "Synthesized",
    }
);

code!(
    /// Key of a service parameter (RFC 9460 §14.3.2).
    SvcKey, "key", {
        0 => "mandatory", 1 => "alpn", 2 => "no-default-alpn", 3 => "port", 4 => "ipv4hint", 5 => "ech",
        6 => "ipv6hint", 7 => "dohpath", 8 => "ohttp", 9 => "tls-supported-groups", 10 => "docpath",
    }
);
