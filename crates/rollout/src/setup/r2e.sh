# Set-up of an R2E-Gym image: links, stale caches, hidden tests. Runs once per digest in the pristine image.
# Environment: WORKDIR is the repository, STAGE the folder that hidden files are moved to.
set -u
cd "$WORKDIR" || { echo "no $WORKDIR in the image"; exit 41; }
[ -x .venv/bin/python ] || { echo "no .venv/bin/python in $WORKDIR"; exit 42; }

# The venv is real in the repository's folder; the family's PATH names it below /root.
mkdir -p /root/.local/bin
[ -e /root/.venv ] || ln -s "$WORKDIR/.venv" /root/.venv
ln -sf "$WORKDIR/.venv/bin/python" /root/.local/bin/python
ln -sf "$WORKDIR/.venv/bin/python" /root/.local/bin/python3
for tool in .venv/bin/*; do
    [ -x "$tool" ] && [ ! -d "$tool" ] && [ ! -e "/root/.local/bin/${tool##*/}" ] && ln -s "$WORKDIR/$tool" /root/.local/bin/
done

# Stale bytecode could hide an edit; the venv's own is in step with its sources and stays.
find . -path ./.venv -prune -o -path ./.git -prune -o \
    \( -name '*.pyc' -o -name __pycache__ -o -name .pytest_cache \) -print0 | xargs -0 -r rm -rf

# Hidden tests: the folder may be in the repository or at the root, the runner in the repository or in /root.
mkdir -p "$STAGE"
for place in "$WORKDIR/r2e_tests" /r2e_tests /root/r2e_tests; do
    if [ -L "$place" ]; then rm -f "$place"; fi
done
for place in "$WORKDIR/r2e_tests" /r2e_tests /root/r2e_tests; do
    [ -d "$place" ] || continue
    if [ -e "$STAGE/r2e_tests" ]; then rm -rf "$place"; else mv "$place" "$STAGE/r2e_tests" || exit 43; fi
done
for place in "$WORKDIR/run_tests.sh" /root/run_tests.sh; do
    [ -f "$place" ] || continue
    if [ -e "$STAGE/run_tests.sh" ]; then rm -f "$place"; else mv "$place" "$STAGE/run_tests.sh" || exit 43; fi
done
[ -f "$STAGE/run_tests.sh" ] || { echo "no run_tests.sh in the image"; exit 44; }
[ -d "$STAGE/r2e_tests" ] || { echo "no r2e_tests in the image"; exit 45; }
find "$STAGE" \( -name '*.pyc' -o -name __pycache__ -o -name .pytest_cache \) -print0 | xargs -0 -r rm -rf
# Longer-hidden files of older images: issue, expected output, stored runs, the commit itself.
rm -rf "$WORKDIR"/{syn_issue.json,expected_test_output.json,execution_result.json,parsed_commit.json,modified_files.json,modified_entities.json}
