//! The JSON schema of the lines, generated from the types that print them and from the protocols' own types.
//!
//! It is kept at `tracer/schema/record.schema.json`, and a test says when the two differ. To accept a change:
//! `UPDATE_SCHEMA=1 cargo test -p tracer schema`. Objects stay open: a reader has to expect fields that it does not
//! know.

use std::collections::BTreeMap;

use protocols::{Registration, registry};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::view::{L7, Stats};

/// The schema of one line of any kind, as JSON Schema 2020-12.
pub fn schema() -> Value {
    let mut generator = generator();
    let l7 = generator.subschema_for::<L7<'_>>().to_value();
    let stats = generator.subschema_for::<Stats<'_>>().to_value();
    let mut definitions = generator.take_definitions(true);
    let mut rules = vec![when("kind", "l7", &l7), when("kind", "stats", &stats)];
    rules.extend(protocols(&mut definitions));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tracer record",
        "description": "One line of output. A reader has to expect fields, and kinds, that it does not know.",
        "type": "object",
        "required": ["schema", "kind"],
        "allOf": rules,
        "$defs": definitions,
    })
}

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_serialize().into_generator()
}

/// What each protocol says of the messages of its records. Two parsers may make records of one name (HTTP/1 and 2).
fn protocols(definitions: &mut Map<String, Value>) -> Vec<Value> {
    let mut messages: BTreeMap<&str, [Vec<Value>; 2]> = BTreeMap::new();
    for (registration, index) in registry::ALL.iter().zip(0..) {
        let schemas = messages_of(registration, index, definitions);
        for name in registration.names {
            let known = messages.entry(name).or_insert_with(|| [(); 2].map(|()| vec![json!({ "type": "null" })]));
            known.iter_mut().zip(schemas.clone()).for_each(|(known, schema)| known.push(schema));
        }
    }
    let rule = |(name, [request, response]): (&str, [Vec<Value>; 2])| {
        let then = json!({ "properties": { "request": { "anyOf": request }, "response": { "anyOf": response } } });
        when("protocol", name, &then)
    };
    messages.into_iter().map(rule).collect()
}

/// The schemas of one protocol's messages; their definitions get a prefix, since every protocol has its `Request`.
fn messages_of(registration: &Registration, index: usize, definitions: &mut Map<String, Value>) -> [Value; 2] {
    let mut generator = generator();
    let mut schemas = (registration.schema)(&mut generator).map(|schema| schema.to_value());
    let prefix = match registry::ALL.iter().position(|other| other.name() == registration.name()) {
        Some(first) if first != index => format!("{}{}.", registration.name(), index),
        _ => format!("{}.", registration.name()),
    };
    schemas.iter_mut().for_each(|schema| prefix_references(schema, &prefix));
    for (name, mut definition) in generator.take_definitions(true) {
        prefix_references(&mut definition, &prefix);
        definitions.insert(format!("{prefix}{name}"), definition);
    }
    schemas
}

fn prefix_references(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(reference) if name == "$ref" => {
                        *reference = reference.replacen("#/$defs/", &format!("#/$defs/{prefix}"), 1);
                    }
                    value => prefix_references(value, prefix),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| prefix_references(value, prefix)),
        _ => {}
    }
}

/// `then` holds for lines in which `field` has this value.
fn when(field: &str, value: &str, then: &Value) -> Value {
    json!({ "if": { "properties": { field: { "const": value } }, "required": [field] }, "then": then })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn kept() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("schema/record.schema.json")
    }

    #[test]
    fn the_kept_schema_is_what_the_types_say() {
        let mut generated = serde_json::to_string_pretty(&schema()).unwrap();
        generated.push('\n');
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::write(kept(), &generated).unwrap();
        }
        let kept = std::fs::read_to_string(kept()).unwrap_or_default();
        assert!(kept == generated, "record.schema.json differs from the types: UPDATE_SCHEMA=1 to accept the change");
    }

    #[test]
    fn no_protocol_prints_a_field_that_the_printer_adds() {
        for registration in registry::ALL {
            let mut definitions = Map::new();
            for schema in messages_of(registration, 0, &mut definitions) {
                let reference = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.rsplit('/').next());
                let message = reference.and_then(|name| definitions.get(name)).unwrap_or(&schema);
                assert_eq!(message.get("properties").and_then(|fields| fields.get("bytes")), None, "{registration:?}");
            }
        }
    }

    #[test]
    fn references_of_a_protocol_lead_to_its_own_definitions() {
        let mut schema =
            json!({ "anyOf": [{ "$ref": "#/$defs/Request" }], "properties": { "$ref": { "type": "string" } } });
        prefix_references(&mut schema, "dns.");
        let expected =
            json!({ "anyOf": [{ "$ref": "#/$defs/dns.Request" }], "properties": { "$ref": { "type": "string" } } });
        assert_eq!(schema, expected);
    }

    /// The JSON objects in the fenced blocks of the users' documentation.
    fn examples() -> Vec<Value> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/records.md");
        let text = std::fs::read_to_string(path).unwrap();
        let blocks = text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
        blocks.map(|block| serde_json::from_str(block).unwrap_or_else(|error| panic!("{error} in {block}"))).collect()
    }

    #[test]
    fn the_documented_examples_keep_to_the_schema() {
        let validator = jsonschema::validator_for(&schema()).unwrap();
        for example in examples() {
            if let Err(error) = validator.validate(&example) {
                panic!("{error} at {} in {example}", error.instance_path());
            }
        }
    }

    #[test]
    fn every_protocol_and_kind_has_a_documented_example() {
        let examples = examples();
        let has = |field: &str, value: &str| examples.iter().any(|example| example[field] == value);
        for name in registry::ALL.iter().flat_map(|registration| registration.names) {
            assert!(has("protocol", name), "docs/records.md shows no record of {name}");
        }
        assert!(has("kind", "l7") && has("kind", "stats"));
    }
}
