//! What is known of single commands: their names, where their key stands, what is secret in their arguments.

use super::value::Kept;

/// Commands of Redis up to 8 and of Valkey, without those of modules.
#[rustfmt::skip]
const KNOWN: &[&str] = &[
    "ACL", "APPEND", "ASKING", "AUTH", "BGREWRITEAOF", "BGSAVE", "BITCOUNT", "BITFIELD", "BITFIELD_RO", "BITOP",
    "BITPOS", "BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZMPOP", "BZPOPMAX", "BZPOPMIN", "CLIENT",
    "CLUSTER", "COMMAND", "CONFIG", "COPY", "DBSIZE", "DEBUG", "DECR", "DECRBY", "DEL", "DISCARD", "DUMP", "ECHO",
    "EVAL", "EVALSHA", "EVALSHA_RO", "EVAL_RO", "EXEC", "EXISTS", "EXPIRE", "EXPIREAT", "EXPIRETIME", "FAILOVER",
    "FCALL", "FCALL_RO", "FLUSHALL", "FLUSHDB", "FUNCTION", "GEOADD", "GEODIST", "GEOHASH", "GEOPOS", "GEORADIUS",
    "GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO", "GEORADIUS_RO", "GEOSEARCH", "GEOSEARCHSTORE", "GET", "GETBIT",
    "GETDEL", "GETEX", "GETRANGE", "GETSET", "HDEL", "HELLO", "HEXISTS", "HEXPIRE", "HEXPIREAT", "HEXPIRETIME",
    "HGET", "HGETALL", "HGETDEL", "HGETEX", "HINCRBY", "HINCRBYFLOAT", "HKEYS", "HLEN", "HMGET", "HMSET", "HPERSIST",
    "HPEXPIRE", "HPEXPIREAT", "HPEXPIRETIME", "HPTTL", "HRANDFIELD", "HSCAN", "HSET", "HSETEX", "HSETNX", "HSTRLEN",
    "HTTL", "HVALS", "INCR", "INCRBY", "INCRBYFLOAT", "INFO", "KEYS", "LASTSAVE", "LATENCY", "LCS", "LINDEX",
    "LINSERT", "LLEN", "LMOVE", "LMPOP", "LOLWUT", "LPOP", "LPOS", "LPUSH", "LPUSHX", "LRANGE", "LREM", "LSET",
    "LTRIM", "MEMORY", "MGET", "MIGRATE", "MODULE", "MONITOR", "MOVE", "MSET", "MSETNX", "MULTI", "OBJECT", "PERSIST",
    "PEXPIRE", "PEXPIREAT", "PEXPIRETIME", "PFADD", "PFCOUNT", "PFDEBUG", "PFMERGE", "PFSELFTEST", "PING", "PSETEX",
    "PSUBSCRIBE", "PSYNC", "PTTL", "PUBLISH", "PUBSUB", "PUNSUBSCRIBE", "QUIT", "RANDOMKEY", "READONLY", "READWRITE",
    "RENAME", "RENAMENX", "REPLCONF", "REPLICAOF", "RESET", "RESTORE", "RESTORE-ASKING", "ROLE", "RPOP", "RPOPLPUSH",
    "RPUSH", "RPUSHX", "SADD", "SAVE", "SCAN", "SCARD", "SCRIPT", "SDIFF", "SDIFFSTORE", "SELECT", "SENTINEL", "SET",
    "SETBIT", "SETEX", "SETNX", "SETRANGE", "SHUTDOWN", "SINTER", "SINTERCARD", "SINTERSTORE", "SISMEMBER", "SLAVEOF",
    "SLOWLOG", "SMEMBERS", "SMISMEMBER", "SMOVE", "SORT", "SORT_RO", "SPOP", "SPUBLISH", "SRANDMEMBER", "SREM",
    "SSCAN", "SSUBSCRIBE", "STRLEN", "SUBSCRIBE", "SUBSTR", "SUNION", "SUNIONSTORE", "SUNSUBSCRIBE", "SWAPDB", "SYNC",
    "TIME", "TOUCH", "TTL", "TYPE", "UNLINK", "UNSUBSCRIBE", "UNWATCH", "WAIT", "WAITAOF", "WATCH", "XACK", "XACKDEL",
    "XADD", "XAUTOCLAIM", "XCLAIM", "XDEL", "XDELEX", "XGROUP", "XINFO", "XLEN", "XPENDING", "XRANGE", "XREAD",
    "XREADGROUP", "XREVRANGE", "XSETID", "XTRIM", "ZADD", "ZCARD", "ZCOUNT", "ZDIFF", "ZDIFFSTORE", "ZINCRBY",
    "ZINTER", "ZINTERCARD", "ZINTERSTORE", "ZLEXCOUNT", "ZMPOP", "ZMSCORE", "ZPOPMAX", "ZPOPMIN", "ZRANDMEMBER",
    "ZRANGE", "ZRANGEBYLEX", "ZRANGEBYSCORE", "ZRANGESTORE", "ZRANK", "ZREM", "ZREMRANGEBYLEX", "ZREMRANGEBYRANK",
    "ZREMRANGEBYSCORE", "ZREVRANGE", "ZREVRANGEBYLEX", "ZREVRANGEBYSCORE", "ZREVRANK", "ZSCAN", "ZSCORE", "ZUNION",
    "ZUNIONSTORE",
];

/// Names of configuration parameters and options whose values are secret.
const SECRET: &[&str] =
    &["requirepass", "masterauth", "auth-pass", "sentinel-pass", "tls-key-file-pass", "tls-client-key-file-pass"];

/// Whether a command of this name, in capitals or not, exists.
pub(super) fn is_known(name: &[u8]) -> bool {
    let upper = name.to_ascii_uppercase();
    KNOWN.binary_search_by(|known| known.as_bytes().cmp(&upper)).is_ok() || is_of_module(&upper)
}

/// Commands of modules are named like `JSON.GET`.
fn is_of_module(upper: &[u8]) -> bool {
    let mut parts = upper.split(|byte| *byte == b'.');
    let word = |part: &[u8]| part.len() >= 2 && part.iter().all(u8::is_ascii_uppercase);
    parts.next().is_some_and(word) && parts.next().is_some_and(word) && parts.next().is_none()
}

/// Whether this could be the name of a command that is not known here.
pub(super) fn is_plausible(name: &[u8]) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    name.len() <= 64 && name.first().is_some_and(u8::is_ascii_alphabetic) && name.iter().all(inner)
}

/// Whether two words are the same to Redis.
fn is(argument: Option<&Kept>, word: &str) -> bool {
    argument.is_some_and(|argument| argument.bytes.eq_ignore_ascii_case(word.as_bytes()))
}

/// The argument that tells what a command is about: its first key, else its first argument.
pub(super) fn target<'a>(command: &[u8], args: &'a [Kept]) -> Option<&'a Kept> {
    let place = match command {
        b"AUTH" | b"HELLO" => return None,
        b"EVAL" | b"EVALSHA" | b"EVAL_RO" | b"EVALSHA_RO" | b"FCALL" | b"FCALL_RO" => {
            if is(args.get(1), "0") {
                0
            } else {
                2
            }
        }
        b"BITOP" | b"XGROUP" | b"XINFO" => 1,
        b"MEMORY" if is(args.first(), "USAGE") => 1,
        b"OBJECT" => 1,
        b"XREAD" | b"XREADGROUP" => args.iter().position(|word| is(Some(word), "STREAMS"))? + 1,
        b"BLMPOP" | b"BZMPOP" => 2,
        b"LMPOP" | b"ZMPOP" | b"SINTERCARD" | b"ZINTERCARD" | b"ZUNION" | b"ZINTER" | b"ZDIFF" => 1,
        b"MIGRATE" => 2,
        _ => 0,
    };
    args.get(place)
}

/// Redacts the arguments that are secret.
pub(super) fn redact_arguments(command: &[u8], args: &mut [Kept]) {
    match command {
        b"AUTH" => redact_from(args, 0, usize::MAX),
        // HELLO 3 AUTH user password SETNAME name
        b"HELLO" => redact_behind(args, &["AUTH"], 2),
        b"MIGRATE" => {
            redact_behind(args, &["AUTH2"], 2);
            redact_behind(args, &["AUTH"], 1);
        }
        b"CONFIG" if is(args.first(), "SET") => redact_behind(args, SECRET, 1),
        b"SENTINEL" => redact_behind(args, SECRET, 1),
        // Rules may hold passwords and their hashes; flags and key patterns are told from those by the first letter.
        b"ACL" if is(args.first(), "SETUSER") => {
            let rules = args.iter_mut().skip(2);
            rules.filter(|rule| rule.bytes.first().is_some_and(|first| b"><#!".contains(first))).for_each(Kept::redact);
        }
        _ => {}
    }
}

fn redact_behind(args: &mut [Kept], words: &[&str], count: usize) {
    for place in 0..args.len() {
        if words.iter().any(|word| is(args.get(place), word)) {
            redact_from(args, place + 1, count);
        }
    }
}

fn redact_from(args: &mut [Kept], start: usize, count: usize) {
    args.iter_mut().skip(start).take(count).for_each(Kept::redact);
}

/// What is secret in the reply to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secret {
    Nothing,
    /// The values of some configuration parameters.
    Parameters,
    All,
}

/// What is secret in the reply to a command.
pub(super) fn secret_reply(command: &[u8], args: &[Kept]) -> Secret {
    let first = args.first();
    match command {
        b"CONFIG" if is(first, "GET") => Secret::Parameters,
        b"ACL" if ["GETUSER", "LIST", "GENPASS", "LOG"].iter().any(|word| is(first, word)) => Secret::All,
        // Replies of what is executed are not followed one by one.
        _ => Secret::Nothing,
    }
}

/// Whether this configuration parameter is secret.
pub(super) fn is_secret(name: &[u8]) -> bool {
    SECRET.iter().any(|secret| name.eq_ignore_ascii_case(secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &str) -> Vec<Kept> {
        words.split(' ').map(|word| Kept::whole(word.as_bytes())).collect()
    }

    #[test]
    fn the_names_are_in_order() {
        assert!(KNOWN.is_sorted());
        assert!(is_known(b"get") && is_known(b"ZUNIONSTORE") && is_known(b"ACL") && is_known(b"JSON.GET"));
        assert!(!is_known(b"GETS") && !is_known(b"HTTP") && !is_known(b"1.1") && !is_known(b"a.b"));
    }

    #[test]
    fn targets() {
        let cases = [
            ("GET k", Some("k")),
            ("EVAL script 1 k v", Some("k")),
            ("EVAL script 0", Some("script")),
            ("XREADGROUP GROUP g c COUNT 1 STREAMS s >", Some("s")),
            ("XREAD COUNT 1", None),
            ("OBJECT ENCODING k", Some("k")),
            ("AUTH p", None),
        ];
        for (words, expected) in cases {
            let words = args(words);
            let found =
                target(&words[0].bytes, &words[1..]).map(|key| String::from_utf8_lossy(&key.bytes).into_owned());
            assert_eq!(found.as_deref(), expected, "{words:?}");
        }
    }

    #[test]
    fn secrets_in_arguments() {
        let cases = [
            ("AUTH s", "AUTH *"),
            ("AUTH u s", "AUTH * *"),
            ("HELLO 3 AUTH u s SETNAME n", "HELLO 3 AUTH * * SETNAME n"),
            ("HELLO 3 auth u s", "HELLO 3 auth * *"),
            ("CONFIG SET maxmemory 1 requirepass s", "CONFIG SET maxmemory 1 requirepass *"),
            ("CONFIG SET masterauth s save x", "CONFIG SET masterauth * save x"),
            ("CONFIG GET requirepass", "CONFIG GET requirepass"),
            ("ACL SETUSER u on >s <s #h ~k* +@all", "ACL SETUSER u on * * * ~k* +@all"),
            ("MIGRATE h 1 k 0 5 AUTH s KEYS a", "MIGRATE h 1 k 0 5 AUTH * KEYS a"),
            ("MIGRATE h 1 k 0 5 AUTH2 u s KEYS a", "MIGRATE h 1 k 0 5 AUTH2 * * KEYS a"),
            ("SENTINEL SET m auth-pass s", "SENTINEL SET m auth-pass *"),
            ("SET AUTH s", "SET AUTH s"),
        ];
        for (words, expected) in cases {
            let mut words = args(words);
            let (command, arguments) = words.split_first_mut().unwrap();
            redact_arguments(&command.bytes, arguments);
            let shown: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(&word.bytes).into_owned()).collect();
            assert_eq!(shown.join(" ").replace("[redacted]", "*"), expected);
        }
    }
}
