//! Image references in one spelling, so that an archive is found whichever way a dataset names its image.

/// `docker.io/library/name:latest` for `name`, and so on: registry, folder and tag are always there. A digest is kept
/// in place of the tag.
pub(super) fn normal(reference: &str) -> String {
    let reference = reference.strip_prefix("docker://").unwrap_or(reference);
    let (name, digest) = match reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (reference, None),
    };
    let (name, tag) = split_tag(name);
    let name = with_registry(name);
    match digest {
        Some(digest) => format!("{name}@{digest}"),
        None => format!("{name}:{}", tag.unwrap_or("latest")),
    }
}

fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        // A colon before a slash belongs to a port.
        Some((front, tag)) if !tag.contains('/') => (front, Some(tag)),
        _ => (name, None),
    }
}

fn with_registry(name: &str) -> String {
    let name = name.strip_prefix("index.docker.io/").unwrap_or(name);
    match name.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => {
            match name.strip_prefix("docker.io/") {
                Some(rest) if !rest.contains('/') => format!("docker.io/library/{rest}"),
                _ => name.to_owned(),
            }
        }
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_per_image() {
        let cases = [
            ("ubuntu", "docker.io/library/ubuntu:latest"),
            ("docker.io/ubuntu:22.04", "docker.io/library/ubuntu:22.04"),
            ("docker.io/library/ubuntu:22.04", "docker.io/library/ubuntu:22.04"),
            ("namanjain12/x_final:abc", "docker.io/namanjain12/x_final:abc"),
            ("index.docker.io/a/b:c", "docker.io/a/b:c"),
            ("localhost:5000/a", "localhost:5000/a:latest"),
            ("localhost/a:b", "localhost/a:b"),
            ("ghcr.io/a/b/c:d", "ghcr.io/a/b/c:d"),
            ("a/b:c@sha256:12", "docker.io/a/b@sha256:12"),
            ("docker://a/b", "docker.io/a/b:latest"),
        ];
        for (given, expected) in cases {
            assert_eq!(normal(given), expected, "{given}");
            assert_eq!(normal(expected), expected);
        }
    }
}
