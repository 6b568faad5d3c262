//! Image references: registry, name, tag, digest, and the map from a registry to its mirror.

use std::collections::BTreeMap;

/// A reference, taken apart as far as pulling needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Everything before tag and digest.
    pub(crate) name: String,
    /// Tag without its colon; `latest` where neither tag nor digest is given.
    pub(super) tag: Option<String>,
    /// `sha256:...`.
    pub(crate) digest: Option<String>,
}

impl Reference {
    /// Takes `text` apart. Nothing is refused here: the daemon judges what is well-formed.
    pub(crate) fn parse(text: &str) -> Self {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        let slash = rest.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match rest[slash..].rfind(':') {
            Some(colon) => (&rest[..slash + colon], Some(rest[slash + colon + 1..].to_owned())),
            None => (rest, None),
        };
        let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Self { name: name.to_owned(), tag, digest }
    }

    /// The same repository's content of this digest.
    pub(super) fn at(&self, digest: &str) -> String {
        format!("{}@{digest}", self.name)
    }

    /// What the daemon's pull call takes as its tag: the digest, which wins, or the tag.
    pub(super) fn version(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// Host of the registry, by the rule of the reference's grammar: the first component is a host if it has a dot or
    /// a port, or is `localhost`.
    pub(super) fn host(&self) -> &str {
        match self.name.split_once('/') {
            Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
            _ => "docker.io",
        }
    }
}

/// Replaces the longest prefix of `reference` that `map` names. A prefix ends at a boundary: after it comes the end,
/// or one of `/`, `:`, `@`, or it ends with `/` itself.
pub(crate) fn apply_map(map: &BTreeMap<String, String>, reference: &str) -> String {
    let longest = map
        .iter()
        .filter(|(prefix, _)| at_boundary(reference, prefix))
        .max_by_key(|(prefix, _)| prefix.len());
    match longest {
        Some((prefix, replacement)) => format!("{replacement}{}", &reference[prefix.len()..]),
        None => reference.to_owned(),
    }
}

fn at_boundary(reference: &str, prefix: &str) -> bool {
    let Some(rest) = reference.strip_prefix(prefix) else { return false };
    prefix.is_empty() || prefix.ends_with('/') || rest.is_empty() || rest.starts_with(['/', ':', '@'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_come_apart() {
        let digest = "sha256:00ff";
        let cases = [
            ("debian", "debian", Some("latest"), None, "docker.io"),
            ("namanjain12/pandas_final:ab12", "namanjain12/pandas_final", Some("ab12"), None, "docker.io"),
            ("localhost/x:1", "localhost/x", Some("1"), None, "localhost"),
            ("localhost:5000/x", "localhost:5000/x", Some("latest"), None, "localhost:5000"),
            ("ghcr.io/a/b:v1@sha256:00ff", "ghcr.io/a/b", Some("v1"), Some(digest), "ghcr.io"),
            ("a/b@sha256:00ff", "a/b", None, Some(digest), "docker.io"),
        ];
        for (text, name, tag, digest, host) in cases {
            let parsed = Reference::parse(text);
            assert_eq!(parsed.name, name, "{text}");
            assert_eq!(parsed.tag.as_deref(), tag, "{text}");
            assert_eq!(parsed.digest.as_deref(), digest, "{text}");
            assert_eq!(parsed.host(), host, "{text}");
        }
        assert_eq!(Reference::parse("a:1@sha256:00ff").version(), digest);
        assert_eq!(Reference::parse("a:1").version(), "1");
        assert_eq!(Reference::parse("h:5000/a:1").at(digest), "h:5000/a@sha256:00ff");
    }

    #[test]
    fn the_longest_prefix_at_a_boundary_is_replaced() {
        let map: BTreeMap<String, String> = [
            ("docker.io", "mirror:1"),
            ("swebench", "mirror:2/swebench"),
            ("swebench/special", "mirror:3/s"),
            ("quay.io/", "mirror:4/q/"),
        ]
        .map(|(from, to)| (from.to_owned(), to.to_owned()))
        .into();
        let cases = [
            ("docker.io/library/debian:12", "mirror:1/library/debian:12"),
            ("swebench/sweb.eval:latest", "mirror:2/swebench/sweb.eval:latest"),
            ("swebench/special:1", "mirror:3/s:1"),
            ("swebench/specialty:1", "mirror:2/swebench/specialty:1"),
            ("swebenchmark/x", "swebenchmark/x"),
            ("quay.io/a@sha256:00", "mirror:4/q/a@sha256:00"),
            ("debian", "debian"),
        ];
        for (from, to) in cases {
            assert_eq!(apply_map(&map, from), to);
        }
        let everything: BTreeMap<_, _> = [(String::new(), "mirror:9/".to_owned())].into();
        assert_eq!(apply_map(&everything, "debian:12"), "mirror:9/debian:12");
    }
}
