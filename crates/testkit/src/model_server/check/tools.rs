//! Tool definitions.

use serde_json::{Map, Value};

use super::{only, text};

/// Checks the definitions and returns the tools' names; `None` where there are none.
pub(super) fn check(fields: &Map<String, Value>) -> Result<Option<Vec<String>>, String> {
    let Some(tools) = fields.get("tools") else { return Ok(None) };
    let tools = tools.as_array().filter(|tools| !tools.is_empty()).ok_or("tools is no list, or empty")?;
    let mut names = Vec::new();
    for tool in tools {
        let name = definition(tool)?;
        if names.contains(&name) {
            return Err(format!("the tool {name} is defined twice"));
        }
        names.push(name);
    }
    Ok(Some(names))
}

fn definition(tool: &Value) -> Result<String, String> {
    let tool = tool.as_object().ok_or("a tool is no object")?;
    only("a tool", tool, &["type", "function"])?;
    if text(tool, "type") != Some("function") {
        return Err("a tool's type is not function".to_owned());
    }
    let function = tool.get("function").and_then(Value::as_object).ok_or("a tool has no function")?;
    only("a function", function, &["name", "description", "parameters", "strict"])?;
    let name = text(function, "name").filter(|name| is_name(name)).ok_or("a function has no valid name")?;
    if let Some(parameters) = function.get("parameters") {
        schema(parameters).map_err(|reason| format!("the parameters of {name}: {reason}"))?;
    }
    Ok(name.to_owned())
}

fn is_name(name: &str) -> bool {
    name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// The part of JSON schema that endpoints rely on.
fn schema(parameters: &Value) -> Result<(), String> {
    let parameters = parameters.as_object().ok_or("they are no object")?;
    if text(parameters, "type") != Some("object") {
        return Err("their type is not object".to_owned());
    }
    let none = Map::new();
    let properties = match parameters.get("properties") {
        None => &none,
        Some(properties) => properties.as_object().ok_or("their properties are no object")?,
    };
    if let Some((name, _)) = properties.iter().find(|(_, property)| !property.is_object()) {
        return Err(format!("the property {name} is no object"));
    }
    let required =
        parameters.get("required").map(|required| required.as_array().ok_or("required is no list"));
    for name in required.transpose()?.into_iter().flatten() {
        if !name.as_str().is_some_and(|name| properties.contains_key(name)) {
            return Err(format!("the required {name} is no property"));
        }
    }
    Ok(())
}
