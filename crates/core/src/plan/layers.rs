//! What names tell: the repository of an instance id, and which images are likely to share layers.
//!
//! The datasets number the tasks of a repository, or name them by commit, at the end of ids, image names or tags.
//! These are estimates: a wrong one costs a slower pull or a worse guess of a duration, never a result.

/// How image names write the `__` between owner and repository, which a registry does not allow in every place.
const OWNER_MARKS: [&str; 3] = ["__", "_1776_", "_s_"];

/// What images with shared layers have in common: the repository name of the reference, without what stands for
/// the single task, and with the tag if the tag is what names the task's repository.
pub fn layer_key(image: &str) -> String {
    let image = image.split_once('@').map_or(image, |(name, _digest)| name);
    let image = image.strip_prefix("docker.io/").unwrap_or(image);
    let image = image.strip_prefix("library/").unwrap_or(image);
    let (folder, name) = image.rsplit_once('/').map_or(("", image), |(folder, name)| (folder, name));
    let (name, tag) = name.split_once(':').unwrap_or((name, ""));
    let slash = if folder.is_empty() { "" } else { "/" };
    let tag = stem(tag);
    if OWNER_MARKS.iter().any(|mark| tag.contains(mark)) {
        return format!("{folder}{slash}{name}:{tag}");
    }
    let repository = stem(name);
    format!("{folder}{slash}{}", if repository.is_empty() { name } else { repository })
}

/// The repository's part of an instance id, with the owner where the id has it; the whole id if it has no such part.
pub fn repository(instance_id: &str) -> &str {
    let stem = stem(instance_id);
    let stem = match stem.rsplit_once("__") {
        Some((repository, task)) if is_task(task) => repository,
        _ => stem,
    };
    if stem.is_empty() { instance_id } else { stem }
}

/// What stands before the first part that is a task's number or commit; parts are between dots and dashes.
fn stem(text: &str) -> &str {
    let mut start = 0;
    for part in text.split(['-', '.']) {
        if is_task(part) {
            return text[..start].trim_end_matches(['-', '.']);
        }
        start += part.len() + 1;
    }
    text
}

/// A number, or a commit of 7 digits or more: one that is all letters is taken for a word.
fn is_task(part: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    digits > 0 && (digits == part.len() || part.len() >= 7 && part.bytes().all(hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_one_repository_have_one_key() {
        for (image, key) in [
            ("namanjain12/numpy_final:db5750f6cdc2715f1c65be31f985e2cd2699d2e0", "namanjain12/numpy_final"),
            (
                "namanjain12/orange3_final:2d9617bd0cb1f0ba61771258410ab8fae8e7e24d",
                "namanjain12/orange3_final",
            ),
            (
                "slimshetty/swebench-verified:sweb.eval.x86_64.astropy__astropy-12907",
                "slimshetty/swebench-verified:sweb.eval.x86_64.astropy__astropy",
            ),
            (
                "swebench/sweb.eval.x86_64.astropy_1776_astropy-12907:latest",
                "swebench/sweb.eval.x86_64.astropy_1776_astropy",
            ),
            (
                "swebench/sweb.eval.x86_64.scikit-learn_1776_scikit-learn-9288:latest",
                "swebench/sweb.eval.x86_64.scikit-learn_1776_scikit-learn",
            ),
            (
                "swebench/sweb.eval.x86_64.chartjs_1776_chart.js-10301:latest",
                "swebench/sweb.eval.x86_64.chartjs_1776_chart.js",
            ),
            (
                "docker.io/xingyaoww/sweb.eval.x86_64.django_s_django-11099:latest",
                "xingyaoww/sweb.eval.x86_64.django_s_django",
            ),
            ("docker.io/swerebenchv2/unidata-netcdf-c:1925-ad6bff3", "swerebenchv2/unidata-netcdf-c"),
            ("mswebench/ponylang_m_ponyc:pr-4593", "mswebench/ponylang_m_ponyc"),
            ("localhost:5000/team/name:1.2", "localhost:5000/team/name"),
            ("localhost:5000/name@sha256:0123456789abcdef", "localhost:5000/name"),
            ("docker.io/library/debian:12", "debian"),
            ("ubuntu:22.04", "ubuntu"),
            ("1234", "1234"),
            ("host", "host"),
        ] {
            assert_eq!(layer_key(image), key, "{image}");
        }
    }

    #[test]
    fn instance_ids_name_their_repository() {
        for (id, name) in [
            ("astropy__astropy-12907", "astropy__astropy"),
            ("scikit-learn__scikit-learn-9288", "scikit-learn__scikit-learn"),
            ("chartjs__Chart.js-10301", "chartjs__Chart.js"),
            ("unidata__netcdf-c-1925", "unidata__netcdf-c"),
            ("numpy__db5750f6cdc2715f1c65be31f985e2cd2699d2e0", "numpy"),
            ("oauthlib__oauthlib.1fd52536.combine_file__09vlzwgc", "oauthlib__oauthlib"),
            ("shini__ini-21", "shini__ini"),
            ("task-003", "task"),
            ("defaced__beefcafe", "defaced__beefcafe"),
            ("12907", "12907"),
            ("", ""),
        ] {
            assert_eq!(repository(id), name, "{id}");
        }
    }
}
