//! Which commands of a script reach for the network.

use std::sync::LazyLock;

use regex::Regex;

use super::shell;

/// A command that may need the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkUse {
    /// Number of its line in the script, from 1.
    pub line: usize,
    /// The part of the line that gave it away.
    pub command: String,
}

/// Finds commands that fetch something: package managers that install, downloads, clones. Careful rather than sharp: a
/// command counts also when a cache would spare it the network, but the test runs of build tools (`cargo test`, `mvn
/// test`) do not, because images carry what those need. Here-documents and comments are not looked at.
#[must_use]
pub fn network_uses(script: &str) -> Vec<NetworkUse> {
    let uses = commands(script).filter_map(|(line, text)| {
        let found = FETCHES.find(text)?;
        (!is_offline(text)).then(|| NetworkUse { line, command: found.as_str().trim().to_owned() })
    });
    uses.collect()
}

/// Tells whether a script holds a command that may need the network.
#[must_use]
pub fn needs_network(script: &str) -> bool {
    !network_uses(script).is_empty()
}

/// Tells whether a script generates locales (Django's rows do, for a second or two of every run).
#[must_use]
pub fn runs_locale_gen(script: &str) -> bool {
    static LOCALE_GEN: LazyLock<Regex> =
        LazyLock::new(|| pattern(r"(?:^|[\s;&|(/])locale-gen(?:$|[\s;&|)])"));
    commands(script).any(|(_, text)| LOCALE_GEN.is_match(text))
}

static FETCHES: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?x) (?: ^ | [\s;&|(`/] ) (?:
            pip[0-9.]* \s (?:-\S+\s+)* (?:install|download|wheel)
          | uv \s+ (?:sync|run|add|tool|venv|pip\s+(?:install|sync))
          | (?:poetry|pdm|pipenv|hatch) \s+ (?:install|sync|update|add|env)
          | (?:python[0-9.]*\s+)? setup\.py \s+ (?:install|develop)
          | (?:apt|apt-get|aptitude) \s (?:.*\s)? (?:update|install|upgrade|build-dep)
          | (?:apk|yum|dnf|microdnf|zypper|pacman|brew) \s
          | (?:conda|mamba|micromamba) \s+ (?:install|create|update|env)
          | (?:npm|pnpm|bun) \s+ (?:install|i|ci|add|update) \b
          | yarn (?: \s+ (?:install|add|up|--\S+) | \s* $ )
          | (?:npx|bunx) \s+ (?:-y|--yes) \s | playwright \s+ install | corepack \s
          | (?:curl|wget|aria2c|ftp|scp|rsync|ssh) \s
          | git \s (?:-[cC]\s*\S+\s+|-\S+\s+)* (?:clone|fetch|pull|ls-remote|submodule\s+(?:update|add))
          | cargo \s+ (?:install|fetch|update|add)
          | go \s+ (?:get|install|mod\s+(?:download|tidy))
          | gem \s+ install | bundle \s+ (?:install|update) | composer \s+ (?:install|update|require)
          | (?:cpan|cpanm) \s | (?:nvm|pyenv|rbenv|rustup|sdk) \s+ (?:install|update|toolchain)
          | docker \s+ (?:pull|run|build)
        )",
    )
});

/// Tells whether a package manager was told to stay off the network.
fn is_offline(text: &str) -> bool {
    let has = |flag: &str| text.split_whitespace().any(|word| word == flag);
    has("--no-index") || has("--offline") || (has("--no-deps") && has("--no-build-isolation"))
}

fn commands(script: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = shell::lines(script).filter(|line| !line.is_data && !line.text.trim_start().starts_with('#'));
    lines.map(|line| (line.number, line.text))
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a constant under test")
}
