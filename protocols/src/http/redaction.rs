//! What must not leave the process: credentials in header fields and in URLs.

use std::borrow::Cow;

use crate::Text;

/// Whether this is the name of a header field whose whole value is secret.
fn is_secret_name(name: &[u8]) -> bool {
    matches!(
        name,
        b"authentication-info"
            | b"authorization"
            | b"cookie"
            | b"cookie2"
            | b"proxy-authentication-info"
            | b"proxy-authorization"
            | b"set-cookie"
            | b"set-cookie2"
            | b"x-amz-security-token"
            | b"x-goog-iap-jwt-assertion"
            | b"x-vault-token"
    )
}

/// Endings of the names of header fields that carry a credential, whatever stands before: "x-api-key", "apikey",
/// "x-auth-token", "x-csrf-token", "x-amz-security-token", "x-hub-signature".
const SECRET_FIELD_ENDINGS: &[&str] = &[
    "api-key",
    "apikey",
    "auth",
    "auth-key",
    "access-key",
    "credential",
    "credentials",
    "jwt",
    "passwd",
    "password",
    "secret",
    "secret-key",
    "session-id",
    "sessionid",
    "signature",
    "signature-256",
    "token",
    "csrf",
    "xsrf",
];

/// Whether this is the name of a header field whose value is a URL.
fn is_url_name(name: &[u8]) -> bool {
    matches!(name, b"content-location" | b"location" | b"referer" | b"refresh" | b"x-original-url" | b"x-original-uri")
}

/// Query parameters whose value is secret, in lower case without `-`, `_` and `.`.
const SECRET_PARAMETERS: &[&str] = &[
    "accesskey",
    "accesstoken",
    "apikey",
    "apitoken",
    "auth",
    "authorization",
    "authtoken",
    "awsaccesskeyid",
    "bearer",
    "clientassertion",
    "clientsecret",
    "code",
    "credential",
    "credentials",
    "csrf",
    "csrftoken",
    "idtoken",
    "jsessionid",
    "jwt",
    "key",
    "pass",
    "passwd",
    "password",
    "phpsessid",
    "privatekey",
    "pwd",
    "refreshtoken",
    "samlresponse",
    "secret",
    "secretkey",
    "session",
    "sessionid",
    "sessiontoken",
    "sid",
    "sig",
    "signature",
    "token",
    "xamzcredential",
    "xamzsecuritytoken",
    "xamzsignature",
    "xgoogcredential",
    "xgoogsignature",
];

const REDACTED: &[u8] = Text::REDACTED.as_bytes();

/// The value of a field (its name in lower case) as it may be printed.
pub(crate) fn field<'a>(name: &[u8], value: &'a [u8]) -> Cow<'a, [u8]> {
    if is_secret_field(name) {
        Cow::Borrowed(REDACTED)
    } else if is_url_name(name) {
        url(value)
    } else {
        Cow::Borrowed(value)
    }
}

fn is_secret_field(name: &[u8]) -> bool {
    // Most names differ from most endings in their last byte already.
    let mut endings = SECRET_FIELD_ENDINGS.iter().filter(|ending| ending.as_bytes().last() == name.last());
    is_secret_name(name)
        || endings.any(|ending| {
            name.strip_suffix(ending.as_bytes()).is_some_and(|before| matches!(before, [] | [.., b'-' | b'_']))
        })
}

/// A URL or a request target without its userinfo and without the values of secret query parameters.
pub(crate) fn url(url: &[u8]) -> Cow<'_, [u8]> {
    let (before, rest) = match split_authority(url) {
        Some((scheme, authority, rest)) => {
            let host = without_userinfo(authority);
            if host.len() < authority.len() {
                (Cow::Owned([scheme, REDACTED, b"@", host].concat()), rest)
            } else {
                (Cow::Borrowed(url.get(..scheme.len() + authority.len()).unwrap_or_default()), rest)
            }
        }
        None => (Cow::Borrowed(&b""[..]), url),
    };
    match (before, query(rest)) {
        (Cow::Borrowed(_), Cow::Borrowed(_)) => Cow::Borrowed(url),
        (before, rest) => Cow::Owned([before.as_ref(), rest.as_ref()].concat()),
    }
}

/// Scheme with "://", authority, and what is behind it, of an absolute URL.
pub(super) fn split_authority(url: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let colon = url.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
    let rest = url.get(colon..)?.strip_prefix(b"://").filter(|_| colon > 0)?;
    let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    Some((url.get(..colon + 3)?, rest.get(..end)?, rest.get(end..)?))
}

/// Host and port of an authority.
pub(crate) fn without_userinfo(authority: &[u8]) -> &[u8] {
    memchr::memrchr(b'@', authority).and_then(|at| authority.get(at + 1..)).unwrap_or(authority)
}

/// Parameters may stand behind the first `?`, `#` (OAuth's implicit flow puts tokens there) or `;` ("/a;jsessionid=1").
fn query(rest: &[u8]) -> Cow<'_, [u8]> {
    let Some(start) = rest.iter().position(|byte| b"?#;".contains(byte)) else { return Cow::Borrowed(rest) };
    let parameters = || rest.get(start..).unwrap_or_default().split_inclusive(|byte| b"?#&;".contains(byte));
    if !parameters().any(|parameter| secret_value(parameter).is_some()) {
        return Cow::Borrowed(rest);
    }
    let mut clean = rest.get(..start).unwrap_or_default().to_vec();
    for parameter in parameters() {
        match secret_value(parameter) {
            Some((name, delimiter)) => clean.extend_from_slice(&[name, b"=", REDACTED, delimiter].concat()),
            None => clean.extend_from_slice(parameter),
        }
    }
    Cow::Owned(clean)
}

/// Of "name=value&" with a secret value: the name, and the delimiter behind the value.
fn secret_value(parameter: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = parameter.len() - usize::from(parameter.last().is_some_and(|byte| b"?#&;".contains(byte)));
    let (parameter, delimiter) = parameter.split_at_checked(end)?;
    let equals = parameter.iter().position(|&byte| byte == b'=')?;
    let name = parameter.get(..equals)?;
    is_secret_parameter(name).then_some((name, delimiter))
}

fn is_secret_parameter(name: &[u8]) -> bool {
    let plain: Vec<u8> = percent_decoded(name)
        .filter(|byte| byte.is_ascii_alphanumeric())
        .map(|byte| byte.to_ascii_lowercase())
        .collect();
    SECRET_PARAMETERS.iter().any(|parameter| parameter.as_bytes() == plain)
}

fn percent_decoded(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = bytes;
    std::iter::from_fn(move || match rest {
        [b'%', high, low, behind @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            rest = behind;
            let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or_default() as u8;
            Some(digit(high) << 4 | digit(low))
        }
        [byte, behind @ ..] => {
            rest = behind;
            Some(*byte)
        }
        [] => None,
    })
}
