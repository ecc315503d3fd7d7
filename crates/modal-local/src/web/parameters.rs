//! Parameters of a class in the query of its web URLs.
//!
//! `https://…/path?size=3` goes to the class with `size = 3`, like `Model(size=3)` in a program: another variant of its
//! function, with containers of its own. The query is handed on as it is.

use std::sync::Arc;

use modal_proto::client::class_parameter_info::ParameterSerializationFormat;
use modal_proto::client::{ClassParameterSpec, FunctionOptions, ParameterType};
use prost::Message;

use super::endpoint::Target;
use crate::error::{Error, Result};
use crate::function::definition::FunctionSpec;

/// `ClassParameterSet` of Modal's API, as the SDK serializes it. Field numbers: descriptors of the `modal` package 1.6.4.
#[derive(Clone, PartialEq, Message)]
struct ParameterSet {
    #[prost(message, repeated, tag = "1")]
    parameters: Vec<ParameterValue>,
}

/// `ClassParameterValue`.
#[derive(Clone, PartialEq, Message)]
struct ParameterValue {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(enumeration = "ParameterType", tag = "2")]
    kind: i32,
    #[prost(string, optional, tag = "3")]
    string_value: Option<String>,
    #[prost(int64, optional, tag = "4")]
    int_value: Option<i64>,
    #[prost(bool, optional, tag = "7")]
    bool_value: Option<bool>,
}

/// Whom a request is for: the target itself, or the variant that its query names.
///
/// # Errors
///
/// `Invalid` where a parameter cannot be read, or one without a default is missing.
pub(super) async fn bind(
    target: &Arc<Target>,
    spec: &FunctionSpec,
    query: Option<&str>,
) -> Result<Arc<Target>> {
    let info = spec.function.class_parameter_info.as_ref();
    let Some(info) = info.filter(|info| {
        info.format() == ParameterSerializationFormat::ParamSerializationFormatProto
    }) else {
        return Ok(Arc::clone(target));
    };
    let parameters = parse(&info.schema, query.unwrap_or_default())?;
    if parameters.is_empty() {
        return Ok(Arc::clone(target));
    }
    let functions = &target.ctx.functions;
    let base = functions.records.get(&spec.base).await?;
    let set = ParameterSet { parameters }.encode_to_vec();
    let variant = functions.variant(&base, &set, &FunctionOptions::default()).await?;
    Ok(Arc::new(Target {
        ctx: target.ctx.clone(),
        function: variant.id,
        method: target.method.clone(),
        port: target.port,
    }))
}

/// The parameters in a query; what the class does not know is the program's.
fn parse(schema: &[ClassParameterSpec], query: &str) -> Result<Vec<ParameterValue>> {
    let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
    let mut found = Vec::new();
    for spec in schema {
        match pairs.iter().find(|(name, _)| *name == spec.name) {
            Some((_, text)) => found.push(value(spec, text)?),
            None if spec.has_default => {}
            None => {
                let name = &spec.name;
                return Err(Error::invalid(format!("the query must have the parameter `{name}`")));
            }
        }
    }
    Ok(found)
}

fn value(spec: &ClassParameterSpec, text: &str) -> Result<ParameterValue> {
    let name = &spec.name;
    let invalid = || Error::invalid(format!("parameter `{name}` cannot be {text:?}"));
    let empty = ParameterValue { name: name.clone(), ..ParameterValue::default() };
    let mut value = match kind(spec) {
        ParameterType::ParamTypeString => {
            ParameterValue { string_value: Some(text.to_owned()), ..empty }
        }
        ParameterType::ParamTypeInt => {
            ParameterValue { int_value: Some(text.parse().map_err(|_| invalid())?), ..empty }
        }
        ParameterType::ParamTypeBool => {
            let truth = match text.to_ascii_lowercase().as_str() {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => return Err(invalid()),
            };
            ParameterValue { bool_value: Some(truth), ..empty }
        }
        _ => return Err(Error::invalid(format!("parameter `{name}` cannot come in a query"))),
    };
    value.kind = kind(spec).into();
    Ok(value)
}

fn kind(spec: &ClassParameterSpec) -> ParameterType {
    let full = spec.full_type.as_ref().map(|kind| kind.base_type());
    full.filter(|kind| *kind != ParameterType::ParamTypeUnspecified)
        .unwrap_or_else(|| spec.r#type())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, kind: ParameterType, has_default: bool) -> ClassParameterSpec {
        ClassParameterSpec {
            name: name.to_owned(),
            r#type: kind.into(),
            has_default,
            ..ClassParameterSpec::default()
        }
    }

    #[test]
    fn a_query_is_read_as_the_class_declares_it() {
        let schema = [
            spec("size", ParameterType::ParamTypeInt, true),
            spec("name", ParameterType::ParamTypeString, false),
        ];
        let found = parse(&schema, "name=a%20b&q=1&size=3").unwrap();
        assert_eq!((found[0].int_value, found[1].string_value.as_deref()), (Some(3), Some("a b")));
        assert!(parse(&schema, "size=3").is_err(), "`name` has no default");
        assert!(parse(&schema, "name=x&size=three").is_err());
    }

    #[test]
    fn parameters_are_serialized_as_the_sdk_does() {
        // `serialize_proto_params({"size": 3})` of the `modal` package 1.6.4.
        let parameters =
            parse(&[spec("size", ParameterType::ParamTypeInt, true)], "size=3").unwrap();
        let bytes = ParameterSet { parameters }.encode_to_vec();
        assert_eq!(hex::encode(bytes), "0a0a0a0473697a6510022003");
    }
}
