//! Laying one document over another.

use serde_json::Value;

/// Lays `over` over `base`: objects are merged key by key, lists of things with a `name` thing by thing, everything else is
/// replaced; `null` removes.
pub(crate) fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                match value {
                    Value::Null => drop(base.shift_remove(key)),
                    _ => merge(base.entry(key.clone()).or_insert(Value::Null), value),
                }
            }
        }
        (Value::Array(base), Value::Array(over)) if all_named(base) && all_named(over) => {
            for thing in over {
                match base.iter_mut().find(|known| known["name"] == thing["name"]) {
                    Some(known) => merge(known, thing),
                    None => base.push(thing.clone()),
                }
            }
        }
        (base, over) => {
            // What stands alone is laid over nothing, so that it keeps no `null`.
            *base = match over {
                Value::Object(_) if !base.is_object() => {
                    let mut fresh = Value::Object(serde_json::Map::new());
                    merge(&mut fresh, over);
                    fresh
                }
                other => other.clone(),
            };
        }
    }
}

fn all_named(list: &[Value]) -> bool {
    list.iter().all(|thing| thing["name"].is_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn things_are_found_by_their_names() {
        let mut base = json!({
            "a": 1, "gone": {"x": 1}, "list": [1, 2],
            "containers": [{"name": "worker", "env": [{"name": "A", "value": "1"}], "image": "old"}],
        });
        let over = json!({
            "gone": null, "list": [3], "new": {"y": null, "z": 1},
            "containers": [{"name": "worker", "image": "new", "env": [{"name": "B", "value": "2"}]}, {"name": "more"}],
        });
        merge(&mut base, &over);
        let wanted = json!({
            "a": 1, "list": [3], "new": {"z": 1},
            "containers": [
                {"name": "worker", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "image": "new"},
                {"name": "more"},
            ],
        });
        assert_eq!(base, wanted);
    }
}
