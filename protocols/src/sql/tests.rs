use proptest::prelude::*;

use super::*;

const LIMIT: usize = 4096;

fn statement(sql: &str, dialect: Dialect) -> Statement {
    Statement::new(sql.as_bytes(), false, dialect, LIMIT)
}

#[test]
fn literals_and_comments_are_redacted() {
    use Dialect::{MySql, Postgres};
    let cases = [
        ("strings", Postgres, "SELECT 'a''b', x FROM t", "SELECT [redacted], x FROM t"),
        ("numbers", Postgres, "SELECT 1, -2.5e3, 0x1F, 0b01, 1_000", "SELECT ?, -?, ?, ?, ?"),
        ("escape string", Postgres, r"SELECT E'it\'s', x", "SELECT [redacted], x"),
        ("unicode string", Postgres, r"SELECT U&'d\0061t', x", "SELECT [redacted], x"),
        ("dollar quotes", Postgres, "DO $x$ it's $$ ' $x$; SELECT $1", "DO [redacted]; SELECT $1"),
        ("identifiers stay", Postgres, r#"SELECT "a ""b" FROM "t""#, r#"SELECT "a ""b" FROM "t""#),
        ("bits", Postgres, "SELECT B'01', X'ff'", "SELECT [redacted], [redacted]"),
        ("line comment", Postgres, "SELECT 1 -- pw: 'x'\nFROM t", "SELECT ? --[redacted]\nFROM t"),
        ("nested comment", Postgres, "SELECT /* a /* b */ c */ x", "SELECT /*[redacted]*/ x"),
        ("password", Postgres, "ALTER USER u PASSWORD 'pw'", "ALTER USER u PASSWORD [redacted]"),
        ("wrongly quoted password", Postgres, "ALTER USER u PASSWORD \"pw\"", "ALTER USER u PASSWORD [redacted]"),
        ("operators", Postgres, "SELECT a->>'k', b @> '{}', c || d", "SELECT a->>[redacted], b @> [redacted], c || d"),
        ("casts", Postgres, "SELECT '1'::int, $1::text", "SELECT [redacted]::int, $1::text"),
        ("several statements", Postgres, "SET x = 'a'; SELECT 'b'", "SET x = [redacted]; SELECT [redacted]"),
        ("not ASCII", Postgres, "SELECT größe FROM t WHERE ä = 'ö'", "SELECT größe FROM t WHERE ä = [redacted]"),
        ("double quotes", MySql, r#"SELECT "a\"b", `c'd` FROM t"#, "SELECT [redacted], `c'd` FROM t"),
        ("backslash", MySql, r"SELECT 'it\'s', x", "SELECT [redacted], x"),
        ("hash comment", MySql, "SELECT 1 # it's\n, x", "SELECT ? #[redacted]\n, x"),
        ("not a comment", MySql, "SELECT 1--2, x", "SELECT ?--?, x"),
        ("hex and bits", MySql, "SELECT 0x41, 0b01, x'41', b'1'", "SELECT ?, ?, [redacted], [redacted]"),
        ("introducer", MySql, "SELECT _utf8mb4'a', N'b'", "SELECT _utf8mb4[redacted], [redacted]"),
        (
            "identified by",
            MySql,
            "CREATE USER 'u'@'%' IDENTIFIED BY 'pw'",
            "CREATE USER [redacted]@[redacted] IDENTIFIED BY [redacted]",
        ),
        ("variables", MySql, "SELECT @@version, @x := 'y'", "SELECT @@version, @x := [redacted]"),
        ("executed comment", MySql, "/*!40101 SET NAMES 'x' */", "/*!40101 SET NAMES [redacted] */"),
        ("numeric name", MySql, "SELECT 1 FROM 2024_sales", "SELECT ? FROM 2024_sales"),
    ];
    for (name, dialect, sql, expected) in cases {
        let mut statement = statement(sql, dialect);
        assert_eq!(statement.query(), &sql, "{name}");
        statement.redact();
        assert_eq!(statement.query(), &expected, "{name}");
    }
}

#[test]
fn what_servers_may_read_differently_is_hidden_behind_the_verb() {
    use Dialect::{MySql, Postgres};
    let cases = [
        ("no end", Postgres, "SELECT 'secret", "SELECT [redacted]"),
        ("no end of dollar quotes", Postgres, "SELECT 1, $a$ secret $b$", "SELECT [redacted]"),
        ("no end of a comment", Postgres, "SELECT 1 /* secret", "SELECT [redacted]"),
        ("operator and comment", Postgres, "SELECT a ||/*'*/'secret'", "SELECT [redacted]"),
        ("operator and line comment", Postgres, "SELECT a ||--it's\n'secret'", "SELECT [redacted]"),
        ("nonstandard strings", Postgres, r"SELECT 'a\' , ' secret '", "SELECT [redacted]"),
        ("tag beyond the tokenizer", Postgres, "SELECT $a\u{301}$ secret $a\u{301}$", "SELECT [redacted]"),
        ("quoted variable", MySql, "SELECT @@`a`, 'secret', `b`", "SELECT [redacted]"),
        ("no end in MySQL", MySql, "SELECT \"secret", "SELECT [redacted]"),
        ("broken executed comment", MySql, "SELECT /*!1 'secret */ 1", "SELECT [redacted]"),
        ("not SQL", MySql, "hunter2 'x", "[redacted]"),
        ("nothing", MySql, "'secret", "[redacted]"),
    ];
    for (name, dialect, sql, expected) in cases {
        let statement = statement(sql, dialect);
        assert_eq!(statement.redacted(), &expected, "{name}");
        assert_eq!(statement.normalised(), None, "{name}");
    }
}

#[test]
fn statements_that_differ_in_values_alone_are_normalised_alike() {
    let cases = [
        ("space", "SELECT  a\n\t, b ", "SELECT a , b"),
        ("comments", "/* x */ SELECT 1 -- y", "SELECT ?"),
        ("list", "SELECT * FROM t WHERE a IN (1, 'b', NULL, 0x1)", "SELECT * FROM t WHERE a IN (?)"),
        ("one", "SELECT * FROM t WHERE a IN (1)", "SELECT * FROM t WHERE a IN (?)"),
        ("negative", "SELECT * FROM t WHERE a IN (-1, +2) AND b = -3", "SELECT * FROM t WHERE a IN (?) AND b = ?"),
        ("difference", "SELECT a - 1", "SELECT a - ?"),
        ("rows", "INSERT INTO t(a, b) VALUES (1, 'x'), (2, DEFAULT)", "INSERT INTO t(a, b) VALUES (?)"),
        ("list of rows", "SELECT 1 WHERE (a, b) IN ((1, 2), (3, 4))", "SELECT ? WHERE (a, b) IN (?)"),
        ("function", "SELECT f(1, 2), g()", "SELECT f(?, ?), g()"),
        ("expression", "SELECT (1 + 2)", "SELECT (? + ?)"),
        ("type", "CREATE TABLE t (a varchar(10))", "CREATE TABLE t (a varchar(?))"),
    ];
    for (name, sql, expected) in cases {
        for dialect in [Dialect::MySql, Dialect::Postgres] {
            let text = Text::from(expected);
            assert_eq!(statement(sql, dialect).normalised(), Some(&text), "{name}, {dialect:?}");
        }
    }
    let list = Text::from("SELECT * FROM t WHERE a = ? AND b IN (?)");
    for (sql, dialect) in [
        ("SELECT * FROM t WHERE a = ? AND b IN (?, ?)", Dialect::MySql),
        ("SELECT * FROM t WHERE a = $1 AND b IN ($2, $3)", Dialect::Postgres),
    ] {
        assert_eq!(statement(sql, dialect).normalised(), Some(&list), "placeholders, {dialect:?}");
    }
}

#[test]
fn the_verb_is_that_of_the_statement() {
    let cases = [
        ("select 1", Some("SELECT")),
        ("  /* INSERT */ -- UPDATE\n ((SELECT 1))", Some("SELECT")),
        ("WITH x AS (DELETE FROM a RETURNING *) insert INTO b SELECT * FROM x", Some("INSERT")),
        ("with x(a) as (select 1) select * from x", Some("SELECT")),
        ("vacuum t", Some("VACUUM")),
        ("; ROLLBACK", Some("ROLLBACK")),
        ("EXPLAIN SELECT 1", Some("EXPLAIN")),
        ("'x' SELECT", None),
        ("", None),
        ("-- only a comment", None),
    ];
    for (sql, expected) in cases {
        for dialect in [Dialect::MySql, Dialect::Postgres] {
            assert_eq!(statement(sql, dialect).verb(), expected, "{sql}, {dialect:?}");
        }
    }
}

#[test]
fn text_that_was_cut_off_does_not_show_the_literal_it_was_cut_in() {
    let sql = r#"INSERT INTO t VALUES ('secret', E'secret', $x$secret$x$, 5), ('secret')"#;
    for limit in 0..sql.len() {
        let statement = Statement::new(sql.as_bytes(), false, Dialect::Postgres, limit);
        assert!(statement.is_truncated());
        let shown = format!("{:?} {:?}", statement.redacted(), statement.normalised());
        for start in ["sec", "s'", "'s"] {
            assert!(!shown.contains(start), "cut at {limit}: {shown}");
        }
    }
    let cut = Statement::new(b"SELECT a FROM t WHERE b = 'secr", true, Dialect::MySql, LIMIT);
    assert_eq!(cut.redacted(), &"SELECT a FROM t WHERE b = [redacted]");
    assert_eq!(cut.verb(), Some("SELECT"));
}

#[test]
fn it_serialises_as_fields_of_a_request() {
    let mut statement = statement("SELECT 'x'", Dialect::Postgres);
    statement.redact();
    let expected = serde_json::json!({"query": "SELECT [redacted]", "normalised_query": "SELECT ?"});
    assert_eq!(serde_json::to_value(&statement).unwrap(), expected);
}

/// Values that an application may put into a literal, with what is special inside one.
fn value() -> impl Strategy<Value = String> {
    let special = proptest::sample::select(vec!["'", "\"", "\\", "--", "/*", "$$", " \n", "ü"]).prop_map(str::to_owned);
    proptest::collection::vec(prop_oneof!["[a-z]{1,4}", special], 0..6)
        .prop_map(|parts| format!("SECRET{}SECRET", parts.concat()))
}

proptest! {
    #[test]
    fn no_properly_quoted_value_is_ever_shown(values in proptest::collection::vec(value(), 1..4), limit in 1_usize..200) {
        let quoted: Vec<_> = values.iter().map(|value| format!("'{}'", value.replace('\'', "''"))).collect();
        let postgres = format!("INSERT INTO t VALUES ({})", quoted.join(", "));
        let escaped: Vec<_> =
            values.iter().map(|value| format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))).collect();
        let mysql = format!("INSERT INTO t VALUES ({})", escaped.join(", "));
        for (sql, dialect) in [(postgres, Dialect::Postgres), (mysql, Dialect::MySql)] {
            for limit in [limit, LIMIT] {
                let statement = Statement::new(sql.as_bytes(), false, dialect, limit);
                let shown = format!("{:?} {:?} {:?}", statement.redacted(), statement.normalised(), statement.verb());
                prop_assert!(!shown.contains("SEC"), "{sql:?} -> {shown}");
            }
        }
    }

    #[test]
    fn any_bytes_are_taken(sql in proptest::collection::vec(any::<u8>(), 0..300)) {
        for dialect in [Dialect::MySql, Dialect::Postgres] {
            Statement::new(&sql, false, dialect, LIMIT);
        }
    }

    #[test]
    fn any_text_of_sql_punctuation_is_taken(sql in "[-a-eExXuUnN0-9'\"`$/*#@?!&|<>=+~^:;.,_() \\\\\n\u{e9}]{0,200}") {
        for dialect in [Dialect::MySql, Dialect::Postgres] {
            Statement::new(sql.as_bytes(), true, dialect, LIMIT);
        }
    }
}
