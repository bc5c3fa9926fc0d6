//! The JSON schema of the lines, generated from the types that print them and from the protocols' own types.
//!
//! It is kept at `tracer/schema/record.schema.json`, and a test says when the two differ. To accept a change:
//! `UPDATE_SCHEMA=1 cargo test -p tracer schema`. Objects stay open: a reader has to expect fields that it does not
//! know.

use protocols::registry;
use schemars::generate::SchemaSettings;
use schemars::{SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::view::{L7, Stats};

/// The schema of one line of any kind, as JSON Schema 2020-12.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let l7 = generator.subschema_for::<L7<'_>>();
    let stats = generator.subschema_for::<Stats<'_>>();
    let protocols: Vec<Value> =
        registry::ALL.iter().map(|registration| protocol(registration, &mut generator)).collect();
    let mut schema = json_schema!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tracer record",
        "description": "One line of output. A reader has to expect fields, and kinds, that it does not know.",
        "type": "object",
        "required": ["schema", "kind"],
        "allOf": [when("kind", &["l7"], &json!(l7)), when("kind", &["stats"], &json!(stats))],
    });
    let root = schema.ensure_object();
    if let Some(Value::Array(all)) = root.get_mut("allOf") {
        all.extend(protocols);
    }
    root.insert("$defs".to_owned(), Value::Object(generator.take_definitions(true)));
    schema.to_value()
}

/// What one protocol says of the messages of its records.
fn protocol(registration: &registry::Registration, generator: &mut SchemaGenerator) -> Value {
    let [request, response] = (registration.schema)(generator).map(|schema| json!(schema));
    let nullable = |schema| json!({ "anyOf": [{ "type": "null" }, schema] });
    let messages = json!({ "properties": { "request": nullable(request), "response": nullable(response) } });
    when("protocol", registration.names, &messages)
}

/// `then` holds for lines in which `field` is one of `values`.
fn when(field: &str, values: &[&str], then: &Value) -> Value {
    json!({ "if": { "properties": { field: { "enum": values } }, "required": [field] }, "then": then })
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
        let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
        for registration in registry::ALL {
            for schema in (registration.schema)(&mut generator) {
                let reference = schema.get("$ref").and_then(Value::as_str);
                let name = reference.and_then(|reference| reference.rsplit('/').next());
                let target = name.and_then(|name| generator.definitions().get(name).cloned());
                let message = target.unwrap_or_else(|| schema.to_value());
                let printed = message.get("properties").and_then(|fields| fields.get("bytes"));
                assert_eq!(printed, None, "{registration:?}");
            }
        }
    }
}
