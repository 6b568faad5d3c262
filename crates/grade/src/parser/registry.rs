//! The table of parsers, and which repository uses which.

use crate::status::StatusMap;

use super::{
    c, django, java, javascript, javascript_failures, javascript_suites, lines, pytest, python, ruby, tap,
};

/// One line of the table.
pub(super) struct Entry {
    /// The name that dataset rows use.
    pub(super) name: &'static str,
    /// How it reads a log.
    pub(super) rule: Rule,
}

/// A parser that reads every log.
type Total = fn(&str) -> StatusMap;

/// How a parser reads a log.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// Every log gives a map.
    Total(Total),
    /// Every log gives a map, but not the same one in both generations of SWE-bench.
    Changed {
        /// The newer reading.
        v5: Total,
        /// The older reading.
        v4: Total,
    },
    /// Some logs make the original parser raise; the error says why.
    Partial(fn(&str) -> Result<StatusMap, String>),
    /// Another parser, chosen by the number at the end of the instance's id.
    ByInstance(fn(&str) -> Option<&'static str>),
    /// A name that dataset rows may carry, whose format is not implemented.
    Unsupported(&'static str),
}

use Rule::{ByInstance, Changed, Partial, Total as Always, Unsupported};

const PYTEST_V2: Rule = Changed { v5: pytest::v2, v4: pytest::v2_single_token };
const NO_EXACT_FORMAT: &str = "its format is not specified closely enough to reproduce its verdicts";

/// All parsers: SWE-bench v5.0.2's registry by language, then this project's names for other harnesses.
pub(super) const ENTRIES: &[Entry] = &[
    entry("parse_log_pytest", Always(pytest::plain)),
    entry("parse_log_pytest_options", Always(pytest::with_options)),
    entry("parse_log_pytest_v2", PYTEST_V2),
    entry("parse_log_astroid", Always(pytest::plain)),
    entry("parse_log_flask", Always(pytest::plain)),
    entry("parse_log_marshmallow", Always(pytest::plain)),
    entry("parse_log_pvlib", Always(pytest::plain)),
    entry("parse_log_pyvista", Always(pytest::plain)),
    entry("parse_log_sqlfluff", Always(pytest::plain)),
    entry("parse_log_xarray", Always(pytest::plain)),
    entry("parse_log_pydicom", Always(pytest::with_options)),
    entry("parse_log_pylint", Always(pytest::with_options)),
    entry("parse_log_requests", Always(pytest::with_options)),
    entry("parse_log_astropy", PYTEST_V2),
    entry("parse_log_scikit", PYTEST_V2),
    entry("parse_log_sphinx", PYTEST_V2),
    entry("parse_log_django", Partial(django::parse)),
    entry("parse_log_matplotlib", Always(python::matplotlib)),
    entry("parse_log_seaborn", Always(python::seaborn)),
    entry("parse_log_sympy", Always(python::sympy)),
    entry("parse_log_bpmn_js", Unsupported(NO_EXACT_FORMAT)),
    entry("parse_log_calypso", Always(javascript_suites::calypso)),
    entry("parse_log_carbon", Always(javascript::test_files)),
    entry("parse_log_chart_js", Always(javascript_failures::chart_js)),
    entry("parse_log_eslint", Unsupported(NO_EXACT_FORMAT)),
    entry("parse_log_grommet", Always(javascript::test_files_passed_wins)),
    entry("parse_log_highlightjs", Unsupported(NO_EXACT_FORMAT)),
    entry("parse_log_immutable_js", ByInstance(immutable_js)),
    entry("parse_log_jest", Always(javascript::jest)),
    entry("parse_log_jest_json", Always(javascript::jest_json)),
    entry("parse_log_karma", Partial(javascript_suites::karma)),
    entry("parse_log_lighthouse", Unsupported(NO_EXACT_FORMAT)),
    entry("parse_log_marked", Always(javascript_failures::marked)),
    entry("parse_log_next", Unsupported(NO_EXACT_FORMAT)),
    entry("parse_log_openlayers", Unsupported(NO_EXACT_FORMAT)),
    entry("parse_log_p5js", Always(javascript_failures::p5js)),
    entry("parse_log_prismjs", Unsupported(NO_EXACT_FORMAT)),
    entry("parse_log_quarto_cli", Unsupported(NO_EXACT_FORMAT)),
    entry("parse_log_react_pdf", Always(javascript::test_files)),
    entry("parse_log_tap", Always(javascript::tap)),
    entry("parse_log_vitest", Always(javascript::vitest)),
    entry("parse_log_doctest", Partial(c::doctest)),
    entry("parse_log_googletest", Always(c::googletest)),
    entry("parse_log_jq", Always(c::jq)),
    entry("parse_log_micropython_test", Always(c::micropython)),
    entry("parse_log_redis", Always(c::redis)),
    entry("parse_log_gotest", Always(lines::gotest)),
    entry("parse_log_cargo", Always(lines::cargo)),
    entry("parse_log_phpunit", Always(lines::phpunit)),
    entry("parse_log_ant", Always(java::ant)),
    entry("parse_log_gradle_custom", Always(java::gradle_custom)),
    entry("parse_log_maven", Always(java::maven)),
    entry("parse_log_cucumber", Always(ruby::cucumber)),
    entry("parse_log_jekyll", ByInstance(jekyll)),
    entry("parse_log_minitest", Always(ruby::minitest)),
    entry("parse_log_rspec_transformed_json", Always(ruby::rspec_transformed_json)),
    entry("parse_log_ruby_unit", Always(ruby::ruby_unit)),
    entry("tap", Always(tap::parse)),
    entry("swegym_pydantic", Always(pytest::swegym_pydantic)),
    entry("swesmith_pytest", Always(pytest::swesmith)),
];

const fn entry(name: &'static str, rule: Rule) -> Entry {
    Entry { name, rule }
}

/// Repositories of rows without a `log_parser` column, in lower case.
const REPOSITORIES: &[(&str, &str)] = &[
    ("astropy/astropy", "parse_log_astropy"),
    ("django/django", "parse_log_django"),
    ("matplotlib/matplotlib", "parse_log_matplotlib"),
    ("mwaskom/seaborn", "parse_log_seaborn"),
    ("pallets/flask", "parse_log_flask"),
    ("psf/requests", "parse_log_requests"),
    ("pydata/xarray", "parse_log_xarray"),
    ("pylint-dev/pylint", "parse_log_pylint"),
    ("pytest-dev/pytest", "parse_log_pytest"),
    ("scikit-learn/scikit-learn", "parse_log_scikit"),
    ("sphinx-doc/sphinx", "parse_log_sphinx"),
    ("sympy/sympy", "parse_log_sympy"),
    ("marshmallow-code/marshmallow", "parse_log_marshmallow"),
    ("pvlib/pvlib-python", "parse_log_pvlib"),
    ("pydicom/pydicom", "parse_log_pydicom"),
    ("pylint-dev/astroid", "parse_log_astroid"),
    ("pyvista/pyvista", "parse_log_pyvista"),
    ("sqlfluff/sqlfluff", "parse_log_sqlfluff"),
    ("bokeh/bokeh", "parse_log_pytest"),
    ("conan-io/conan", "parse_log_pytest"),
    ("dask/dask", "parse_log_pytest"),
    ("facebookresearch/hydra", "parse_log_pytest"),
    ("getmoto/moto", "parse_log_pytest"),
    ("iterative/dvc", "parse_log_pytest"),
    ("modin-project/modin", "parse_log_pytest"),
    ("pandas-dev/pandas", "parse_log_pytest"),
    ("project-monai/monai", "parse_log_pytest"),
    ("pydantic/pydantic", "swegym_pydantic"),
    ("python/mypy", "parse_log_pytest"),
];

/// Finds a parser of any kind by its exact name.
pub(super) fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

/// Finds the name of a repository's parser.
pub(super) fn of_repo(repo: &str) -> Option<&'static str> {
    REPOSITORIES.iter().find(|(name, _)| name.eq_ignore_ascii_case(repo)).map(|(_, parser)| *parser)
}

fn immutable_js(number: &str) -> Option<&'static str> {
    match number {
        "2006" => Some("parse_log_jest"),
        "2005" => Some("parse_log_jest_json"),
        _ => None,
    }
}

fn jekyll(number: &str) -> Option<&'static str> {
    match number {
        "8047" | "8167" | "9141" => Some("parse_log_minitest"),
        "8761" | "8771" => Some("parse_log_cucumber"),
        _ => None,
    }
}
