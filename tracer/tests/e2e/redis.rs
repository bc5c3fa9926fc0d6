//! redis-server as a traced server, redis-cli as a traced client. Witnesses: a client that knows every byte, and
//! Redis's own MONITOR and command statistics.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::redis::{Redis, command, receive_reply};
use crate::support::{Differences, Peer, Place, Row, Tracer, Wire, run, virtual_machine};

/// A client of redis-server, and the records that its commands should make.
struct Client {
    peer: Peer,
    expected: Vec<Value>,
}

impl Client {
    fn connect(place: &Place) -> Self {
        Self { peer: Peer::connect(place), expected: Vec::new() }
    }

    /// Sends one command and receives its reply, whose fields are as `response` says.
    fn call(&mut self, words: &[&str], response: Value) -> Vec<u8> {
        self.peer.send(&command(words));
        let reply = receive_reply(&mut self.peer);
        self.expect(words, command(words).len(), response, reply.len());
        reply
    }

    /// Like [`Client::call`], and the reply is exactly this.
    fn exact(&mut self, words: &[&str], reply: &str, response: Value) {
        let received = self.call(words, response);
        assert_eq!(String::from_utf8_lossy(&received), reply, "{words:?}");
    }

    fn expect(&mut self, words: &[&str], request_bytes: usize, mut response: Value, response_bytes: usize) {
        let (name, args) = words.split_first().expect("a command");
        response["bytes"] = json!(response_bytes);
        self.expected.push(json!({
            "request": {"command": name.to_uppercase(), "args": args, "bytes": request_bytes},
            "response": response,
        }));
    }
}

/// The records of one connection, by the port of its client.
fn of_port(records: &[Value], port: Option<u16>) -> Vec<Value> {
    let of_port = |record: &&Value| record["connection"]["remote"]["port"].as_u64() == port.map(u64::from);
    records.iter().filter(of_port).cloned().collect()
}

/// Traces redis-server while clients talk to it, and compares all of their records.
#[track_caller]
fn conversations(options: &[&str], clients: impl Fn(&Redis) -> Vec<Client>) {
    let redis = Redis::start(&[]);
    let tracer = Tracer::attach(&[redis.pid()], options);
    let clients = clients(&redis);
    let count = clients.iter().map(|client| client.expected.len()).sum();
    tracer.wait_for(count);
    let outcome = tracer.stop();
    let records: Vec<Value> = outcome.records().collect();
    let mut differences = Differences::default();
    differences.expect(records.len() == count, || format!("{} records, should be {count}", records.len()));
    for client in &clients {
        let server = client.peer.port.map_or_else(|| Place::Path(redis.socket()), |_| redis.tcp());
        let wire = Wire { server, client: client.peer.port, ..Wire::of_server("redis", redis.port) };
        wire.compare_all(&of_port(&records, client.peer.port), &client.expected, &mut differences);
    }
    for record in &records {
        differences.field(record, "/process/comm", "redis-server");
        differences.field(record, "/process/pid", redis.pid());
    }
    differences.assert_none("redis-server");
    outcome.ledger().assert_nothing_lost();
}

/// `DEBUG PROTOCOL` replies with each type; what it replies depends on the version of the protocol.
#[test]
#[expect(clippy::approx_constant, reason = "it is what the server sends")]
fn every_type_of_reply() {
    let of = |kind: &str, value: Value| json!({"type": kind, "value": value});
    conversations(&[], |redis| {
        let mut old = Client::connect(&redis.tcp());
        let mut new = Client::connect(&redis.tcp());
        new.call(&["HELLO", "3"], json!({"type": "map"}));
        for (kind, two, three) in [
            ("string", of("bulk_string", json!("Hello World")), of("bulk_string", json!("Hello World"))),
            ("integer", of("integer", json!(12345)), of("integer", json!(12345))),
            ("double", of("bulk_string", json!("3.141")), of("double", json!(3.141))),
            ("null", of("null", json!(null)), of("null", json!(null))),
            ("array", of("array", json!([0, 1, 2])), of("array", json!([0, 1, 2]))),
            ("set", of("array", json!([0, 1, 2])), of("set", json!([0, 1, 2]))),
            ("map", of("array", json!([0, 0, 1, 1, 2, 0])), of("map", json!([[0, false], [1, true], [2, false]]))),
            (
                "attrib",
                of("bulk_string", json!("Some real reply following the attribute")),
                of("bulk_string", json!("Some real reply following the attribute")),
            ),
            (
                "verbatim",
                of("bulk_string", json!("This is a verbatim\nstring")),
                of("verbatim_string", json!("This is a verbatim\nstring")),
            ),
            ("true", of("integer", json!(1)), of("boolean", json!(true))),
            ("false", of("integer", json!(0)), of("boolean", json!(false))),
            (
                "bignum",
                of("bulk_string", json!("1234567999999999999999999999999999999")),
                of("big_number", json!("1234567999999999999999999999999999999")),
            ),
        ] {
            old.call(&["DEBUG", "PROTOCOL", kind], two);
            new.call(&["DEBUG", "PROTOCOL", kind], three);
        }
        // A push goes before the reply, and is not one.
        new.peer.send(&command(&["DEBUG", "PROTOCOL", "push"]));
        receive_reply(&mut new.peer);
        let reply = receive_reply(&mut new.peer);
        let response = json!({"type": "bulk_string", "value": "Some real reply following the push reply", "pushes": 1});
        let request = &["DEBUG", "PROTOCOL", "push"];
        new.expect(request, command(request).len(), response, reply.len());
        old.exact(
            &["GET"],
            "-ERR wrong number of arguments for 'get' command\r\n",
            json!({"type": "error", "error":
            "ERR wrong number of arguments for 'get' command"}),
        );
        old.exact(&["PING"], "+PONG\r\n", of("simple_string", json!("PONG")));
        old.call(&["EVAL", "return {1,{2,{3,'a'}},false}", "0"], of("array", json!([1, [2, [3, "a"]], null])));
        old.exact(&["SELECT", "7"], "+OK\r\n", json!({"type": "simple_string"}));
        old.exact(&["GET", "none"], "$-1\r\n", json!({"type": "null", "value": null}));
        old.expected.last_mut().expect("one")["request"]["database"] = json!(7);
        vec![old, new]
    });
}

#[test]
fn transactions() {
    conversations(&[], |redis| {
        let mut client = Client::connect(&redis.tcp());
        let mut other = Client::connect(&redis.tcp());
        let ok = || json!({"type": "simple_string", "value": "OK"});
        let queued = || json!({"type": "simple_string", "value": "QUEUED"});
        client.exact(&["MULTI"], "+OK\r\n", ok());
        client.exact(&["SET", "a", "text"], "+QUEUED\r\n", queued());
        client.exact(&["INCR", "a"], "+QUEUED\r\n", queued());
        client.exact(&["GET", "a"], "+QUEUED\r\n", queued());
        let error = "ERR value is not an integer or out of range";
        client.call(&["EXEC"], json!({"type": "array", "value": ["OK", {"error": error}, "text"]}));
        client.exact(&["MULTI"], "+OK\r\n", ok());
        client.exact(&["DISCARD"], "+OK\r\n", ok());
        client.exact(&["WATCH", "a"], "+OK\r\n", ok());
        other.exact(&["SET", "a", "changed"], "+OK\r\n", ok());
        client.exact(&["MULTI"], "+OK\r\n", ok());
        client.exact(&["GET", "a"], "+QUEUED\r\n", queued());
        client.exact(&["EXEC"], "*-1\r\n", json!({"type": "null", "value": null}));
        vec![client, other]
    });
}

/// Messages that are pushed make no records, in both versions of the protocol.
#[test]
fn subscriptions() {
    conversations(&[], |redis| {
        let mut publisher = Client::connect(&redis.tcp());
        let mut subscribers = Vec::new();
        for version in ["2", "3"] {
            let mut client = Client::connect(&redis.tcp());
            client.call(&["HELLO", version], json!({}));
            let subscribe = ["SUBSCRIBE", "one", "two"];
            client.peer.send(&command(&subscribe));
            let bytes = receive_reply(&mut client.peer).len() + receive_reply(&mut client.peer).len();
            client.expect(&subscribe, command(&subscribe).len(), json!({"replies": 2}), bytes);
            publisher.exact(&["PUBLISH", "one", "hello"], ":1\r\n", json!({"type": "integer", "value": 1}));
            receive_reply(&mut client.peer);
            publisher.exact(&["PUBLISH", "two", "world"], ":1\r\n", json!({"type": "integer", "value": 1}));
            receive_reply(&mut client.peer);
            let pong = if version == "2" { json!({"type": "array"}) } else { json!({"type": "simple_string"}) };
            client.call(&["PING"], pong);
            client.expected.last_mut().expect("one")["response"]["pushes"] = json!(2);
            client.peer.send(&command(&["UNSUBSCRIBE"]));
            let bytes = receive_reply(&mut client.peer).len() + receive_reply(&mut client.peer).len();
            client.expect(&["UNSUBSCRIBE"], command(&["UNSUBSCRIBE"]).len(), json!({"replies": 2}), bytes);
            client.exact(&["PING"], "+PONG\r\n", json!({"type": "simple_string", "value": "PONG"}));
            subscribers.push(client);
        }
        subscribers.push(publisher);
        subscribers
    });
}

/// A blocked client gets its reply when another one acts: the time between is its latency.
#[test]
fn blocking_commands() {
    const PAUSE: Duration = Duration::from_millis(300);
    let redis = Redis::start(&[]);
    let tracer = Tracer::attach(&[redis.pid()], &[]);
    let mut waiting = Peer::connect(&redis.tcp());
    let mut other = Client::connect(&redis.tcp());
    waiting.send(&command(&["BLPOP", "list", "0"]));
    std::thread::sleep(PAUSE);
    other.exact(&["RPUSH", "list", "element"], ":1\r\n", json!({"type": "integer", "value": 1}));
    receive_reply(&mut waiting);
    tracer.wait_for(2);
    let records: Vec<Value> = tracer.stop().records().collect();
    let mut differences = Differences::default();
    Wire::of_server("redis", redis.port).compare_all(
        &of_port(&records, other.peer.port),
        &other.expected,
        &mut differences,
    );
    let blocked = of_port(&records, waiting.port);
    differences.expect(blocked.len() == 1, || format!("{records:#?}"));
    for record in &blocked {
        differences.members(
            record,
            &json!({"request": {"command": "BLPOP", "args": ["list", "0"]}, "response":
            {"type": "array", "value": ["list", "element"]}, "integrity": {"complete": true}}),
        );
        let pause = PAUSE.as_nanos() as u64;
        differences.between(record, "/latency_ns", pause, 20 * pause);
    }
    differences.assert_none("BLPOP");
}

/// Commands that get no reply have records without a response, and shift nothing.
#[test]
fn commands_without_replies() {
    let redis = Redis::start(&[]);
    let tracer = Tracer::attach(&[redis.pid()], &[]);
    let mut peer = Peer::connect(&redis.tcp());
    let silent = |peer: &mut Peer, words: &[&str]| peer.send(&command(words));
    peer.send(&command(&["SET", "a", "1"]));
    receive_reply(&mut peer);
    for words in [&["CLIENT", "REPLY", "SKIP"][..], &["INCR", "a"], &["INCR", "a"]] {
        silent(&mut peer, words);
    }
    assert_eq!(receive_reply(&mut peer), b":3\r\n");
    for words in [&["CLIENT", "REPLY", "OFF"][..], &["INCR", "a"], &["GET", "a"], &["CLIENT", "REPLY", "ON"]] {
        silent(&mut peer, words);
    }
    assert_eq!(receive_reply(&mut peer), b"+OK\r\n");
    peer.send(&command(&["GET", "a"]));
    assert_eq!(receive_reply(&mut peer), b"$1\r\n4\r\n");
    tracer.wait_for(9);
    let outcome = tracer.stop();
    let records: Vec<Value> = outcome.records().collect();
    let mut by_sequence: Vec<_> = records.iter().collect();
    by_sequence.sort_by_key(|record| record["sequence"].as_u64());
    let field = |record: &Value, pointer: &str| record.pointer(pointer).cloned().unwrap_or_default();
    let fields = ["/request/command", "/request/no_reply", "/response/value"];
    let seen: Vec<[Value; 3]> = by_sequence.iter().map(|record| fields.map(|pointer| field(record, pointer))).collect();
    let row = |command: &str, silent: Value, value: Value| [json!(command), silent, value];
    let (silent, none) = (json!(true), json!(null));
    let expected = [
        row("SET", none.clone(), json!("OK")),
        row("CLIENT", silent.clone(), none.clone()),
        row("INCR", silent.clone(), none.clone()),
        row("INCR", none.clone(), json!(3)),
        row("CLIENT", silent.clone(), none.clone()),
        row("INCR", silent.clone(), none.clone()),
        row("GET", silent, none.clone()),
        row("CLIENT", none.clone(), json!("OK")),
        row("GET", none, json!("4")),
    ];
    assert_eq!(seen, expected, "{records:#?}");
    outcome.ledger().assert_nothing_lost();
}

/// Passwords are nowhere in the output, whether they are right or wrong, whatever command carries them.
#[test]
fn passwords_are_redacted() {
    for (options, shown) in [(&[][..], false), (&["--no-redact"][..], true)] {
        let redis = Redis::start(&["--requirepass", "geheim"]);
        let tracer = Tracer::attach(&[redis.pid()], options);
        let mut peer = Peer::connect(&redis.tcp());
        for words in [
            &["GET", "a"][..],
            &["AUTH", "geheim-not"],
            &["HELLO", "3", "AUTH", "default", "geheim"],
            &["AUTH", "geheim"],
            &["CONFIG", "SET", "masterauth", "geheim"],
            &["CONFIG", "GET", "masterauth"],
            &["ACL", "SETUSER", "someone", ">geheim"],
        ] {
            peer.send(&command(words));
            receive_reply(&mut peer);
        }
        peer.send(b"AUTH geheim\r\n");
        assert_eq!(receive_reply(&mut peer), b"+OK\r\n");
        tracer.wait_for(8);
        let outcome = tracer.stop();
        let records: Vec<Value> = outcome.records().collect();
        let failed: Vec<_> = records.iter().map(|record| record["response"]["type"] == "error").collect();
        assert_eq!(failed, [true, true, false, false, false, false, false, false], "{records:#?}");
        let everywhere = outcome.stdout() + &outcome.stderr;
        assert_eq!(everywhere.contains("geheim"), shown, "{everywhere}");
        assert_eq!(everywhere.contains("[redacted]"), !shown, "{everywhere}");
    }
}

/// The form for people who type.
#[test]
fn inline_commands() {
    conversations(&[], |redis| {
        let mut client = Client::connect(&redis.tcp());
        for (line, words, response) in [
            ("PING\r\n", &["PING"][..], json!({"type": "simple_string", "value": "PONG"})),
            ("set  key \"two words\"\r\n", &["SET", "key", "two words"], json!({"type": "simple_string"})),
            ("GET key\n", &["GET", "key"], json!({"type": "bulk_string", "value": "two words"})),
            ("GET 'a\\'b'\r\n", &["GET", "a'b"], json!({"type": "null"})),
        ] {
            client.peer.send(line.as_bytes());
            let reply = receive_reply(&mut client.peer);
            client.expect(words, line.len(), response, reply.len());
        }
        vec![client]
    });
}

/// Values of a megabyte go by, and leave nothing behind.
#[test]
fn large_values() {
    conversations(&[], |redis| {
        let large = "0123456789abcdef".repeat(65_536);
        let [mut tcp, mut unix] = [redis.tcp(), Place::Path(redis.socket())].map(|place| Client::connect(&place));
        for client in [&mut tcp, &mut unix] {
            client.exact(&["SET", "large", &large], "+OK\r\n", json!({"type": "simple_string", "value": "OK"}));
            let shown = &mut client.expected.last_mut().expect("one")["request"];
            shown.as_object_mut().expect("an object").remove("args");
            client.call(&["GET", "large"], json!({"type": "bulk_string", "value": {"bytes": 1 << 20}}));
            client.exact(&["STRLEN", "large"], ":1048576\r\n", json!({"type": "integer", "value": 1 << 20}));
            client.exact(&["DEL", "large"], ":1\r\n", json!({"type": "integer", "value": 1}));
        }
        vec![tcp, unix]
    });
}

/// Many commands in one write, and their replies in as few reads as it takes.
#[test]
fn pipelines() {
    // Redis answers with up to 64 KiB in one call.
    conversations(&["--max-capture", "256K"], |redis| {
        let mut client = Client::connect(&redis.tcp());
        let commands: Vec<_> = (0..1000u64).map(|number| (format!("key{}", number % 7), number.to_string())).collect();
        let mut bytes = Vec::new();
        for (key, value) in &commands {
            bytes.extend(command(&["SET", key, value]));
            bytes.extend(command(&["GET", key]));
        }
        client.peer.send(&bytes);
        for (key, value) in &commands {
            for (words, response) in [
                (&["SET", key, value][..], json!({"type": "simple_string", "value": "OK"})),
                (&["GET", key], json!({"type": "bulk_string", "value": value})),
            ] {
                let reply = receive_reply(&mut client.peer);
                client.expect(words, command(words).len(), response, reply.len());
            }
        }
        vec![client]
    });
}

/// One record for each command that Redis counted, and as many replies of each kind.
#[test]
fn redis_benchmark() {
    let count = if virtual_machine() { "2000" } else { "20000" };
    for (tls, pipeline) in [(false, "16"), (false, "1"), (true, "16")] {
        let row = Row::openssl(tls, "redis-server");
        let redis = Redis::start(&[]);
        // What is not lost on a busy machine is what this is about, not how much is.
        let tracer = Tracer::attach(&[redis.pid()], &["--ring-size", "256M"]);
        let port = if tls { redis.tls_port } else { redis.port };
        let mut command = Command::new("redis-benchmark");
        command.args(["-p", &port.to_string(), "-P", pipeline, "-n", count, "-c", "8", "-r", "1000", "-q"]);
        command.args(["-t", "set,get,incr,lpush,mset"]);
        if tls {
            command.args(["--tls", "--insecure"]);
        }
        run(&mut command);
        // INFO itself is executed, and counted from then on.
        let calls: BTreeMap<String, u64> = redis.calls().into_iter().collect();
        let total: u64 = calls.values().sum::<u64>() + 1;
        tracer.wait_for(usize::try_from(total).expect("a count"));
        let outcome = tracer.stop();
        let mut differences = Differences::default();
        let mut counted = BTreeMap::new();
        let wire = Wire { server: Place::Port(port), tls, ..Wire::of_server("redis", port) };
        for record in outcome.records() {
            let command = record["request"]["command"].as_str().unwrap_or_default().to_owned();
            let subcommand = record["request"]["args"][0].as_str().unwrap_or_default().to_uppercase();
            if command == "INFO" {
                continue; // Of the other connection.
            }
            wire.compare(&record, &mut differences);
            differences.field(&record, "/integrity/complete", true);
            let expected = match command.as_str() {
                "SET" | "MSET" => json!({"type": "simple_string", "value": "OK"}),
                "GET" => json!({}),
                "INCR" | "LPUSH" => json!({"type": "integer"}),
                _ => json!({"type": "array"}),
            };
            differences.members(&record["response"], &expected);
            // CONFIG GET counts as config|get.
            let name = if command == "CONFIG" { format!("{command}|{subcommand}") } else { command };
            *counted.entry(name).or_insert(0) += 1;
        }
        differences.assert_none(&format!("redis-benchmark, TLS {tls}, -P {pipeline}"));
        assert_eq!(counted, calls, "TLS {tls}, -P {pipeline}: {:?}", outcome.ledger());
        outcome.ledger().assert_nothing_lost();
        row.into_iter().for_each(|row| row.passed(outcome.records()));
    }
}

/// Every command that Redis executed, in the words of MONITOR: time, database, the client's address, the words.
#[test]
fn monitor_agrees() {
    let redis = Redis::start(&[]);
    // redis-cli begins with COMMAND DOCS, whose reply is long.
    let tracer = Tracer::attach(&[redis.pid()], &["--max-capture", "256K"]);
    let mut monitor = Peer::connect(&redis.tcp());
    monitor.send(&command(&["MONITOR"]));
    assert_eq!(receive_reply(&mut monitor), b"+OK\r\n");
    let input = "SET a 1\nGET a\nHSET h x 1 y 2\nHGETALL h\nSELECT 3\nLPUSH l a b c\nLRANGE l 0 -1\nDEL l\n";
    let lines = input.lines().count();
    for (arguments, file) in [(&["-3"][..], "three"), (&[], "two")] {
        let path = std::env::temp_dir().join(format!("redis-{}-{file}", redis.port));
        std::fs::write(&path, input).expect("cannot write a temporary file");
        let script = r#"exec redis-cli "$@" < "$0""#;
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(&path).args(["-p", &redis.port.to_string()]).args(arguments);
        run(&mut command);
        std::fs::remove_file(&path).expect("just written");
    }
    // COMMAND DOCS of both, and HELLO of one.
    let count = 2 * (lines + 1) + 1;
    let witnessed: Vec<String> =
        (0..count).map(|_| String::from_utf8(receive_reply(&mut monitor)).expect("UTF-8")).collect();
    tracer.wait_for(count + 1);
    let outcome = tracer.stop();
    let records: Vec<Value> = outcome.records().collect();
    let shown: Vec<&Value> = records.iter().filter(|record| record["request"]["command"] != "MONITOR").collect();
    assert_eq!((records.len(), shown.len()), (count + 1, count));
    for (record, line) in shown.iter().zip(&witnessed) {
        // +1339518083.107412 [0 127.0.0.1:60866] "keys" "*"
        let (head, words) = line.trim_end().split_once("] ").expect("MONITOR's form");
        let (_, client) = head.split_once(' ').and_then(|(_, rest)| rest.split_once(' ')).expect("an address");
        let request = &record["request"];
        let mut spoken = vec![request["command"].clone()];
        spoken.extend(request["args"].as_array().cloned().unwrap_or_default());
        let spoken: Vec<String> = spoken.iter().map(|word| format!("\"{}\"", word.as_str().unwrap_or("?"))).collect();
        assert_eq!(spoken.join(" "), words, "{record}");
        assert_eq!(format!("127.0.0.1:{}", record["connection"]["remote"]["port"]), client, "{record}");
    }
}

/// redis-cli traced, with and without TLS and over a unix socket: what it printed is in the records.
#[test]
fn redis_cli() {
    let redis = Redis::start(&[]);
    let (port, tls_port, socket) = (redis.port.to_string(), redis.tls_port.to_string(), redis.socket());
    let ways: [(&[&str], Place, bool); 3] = [
        (&["-p", &port], Place::Port(redis.port), false),
        (&["-p", &tls_port, "--tls", "--insecure"], Place::Port(redis.tls_port), true),
        (&["-s", &socket], Place::Path(socket.clone()), false),
    ];
    let input = tempfile::NamedTempFile::new().expect("no temporary file");
    std::fs::write(input.path(), "SET a 1\nGET a\nGET none\nLRANGE a 0 1\nCLIENT ID\n").expect("cannot write a file");
    let input = input.path().to_str().expect("UTF-8");
    for (arguments, place, tls) in ways {
        let row = Row::openssl(tls, "redis-cli");
        let script = r#"input=$1; shift; exec redis-cli "$@" < "$input" >&2"#;
        let mut launched = vec!["sh", "-c", script, "sh", input];
        launched.extend(arguments);
        let outcome = Tracer::launch(&["--max-capture", "256K"], &launched).wait();
        outcome.assert_success();
        let records: Vec<Value> = outcome.records().collect();
        let wrong = "WRONGTYPE Operation against a key holding the wrong kind of value";
        let id: u64 = outcome.stderr.lines().find_map(|line| line.parse().ok().filter(|id| *id > 2)).expect("an id");
        let expected = [
            json!({"request": {"command": "COMMAND", "args": ["DOCS"]}, "response": {"type": "array"}}),
            json!({"request": {"command": "SET", "args": ["a", "1"]}, "response": {"value": "OK"}}),
            json!({"request": {"command": "GET", "args": ["a"]}, "response": {"type": "bulk_string", "value": "1"}}),
            json!({"request": {"command": "GET", "args": ["none"]}, "response": {"type": "null"}}),
            json!({"request": {"command": "LRANGE"}, "response": {"type": "error", "error": wrong}}),
            json!({"request": {"command": "CLIENT"}, "response": {"type": "integer", "value": id}}),
        ];
        let mut differences = Differences::default();
        let wire = Wire { role: "client", server: place, tls, ..Wire::of_server("redis", 0) };
        wire.compare_all(&records, &expected, &mut differences);
        for record in &records {
            differences.field(record, "/process/comm", "redis-cli");
        }
        differences.assert_none(&format!("redis-cli {arguments:?}: {}", outcome.stderr));
        outcome.ledger().assert_balanced();
        outcome.ledger().assert_nothing_lost();
        row.into_iter().for_each(|row| row.passed(outcome.records()));
    }
}
