//! Laying one document over another.

use serde_json::Value;

/// Lays `over` over `base`: objects are merged key by key, lists of things with a `mountPath` or a `name` thing by
/// thing, everything else is replaced; `null` removes.
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
        (Value::Array(base), Value::Array(over)) if key_of(base, over).is_some() => {
            let key = key_of(base, over).unwrap_or_default();
            for thing in over {
                match base.iter_mut().find(|known| known[key] == thing[key]) {
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

/// What tells the things of both lists apart: where a volume is mounted, else a name.
fn key_of(base: &[Value], over: &[Value]) -> Option<&'static str> {
    let has = |key: &&str| base.iter().chain(over).all(|thing| thing[*key].is_string());
    ["mountPath", "name"].into_iter().find(has)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_volume_may_be_mounted_at_two_places() {
        let mut base = json!({"volumeMounts": [{"name": "v", "mountPath": "/a"}]});
        merge(
            &mut base,
            &json!({"volumeMounts": [{"name": "v", "mountPath": "/b"}, {"name": "w", "mountPath": "/a"}]}),
        );
        let wanted = json!([{"name": "w", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}]);
        assert_eq!(base["volumeMounts"], wanted);
    }

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
