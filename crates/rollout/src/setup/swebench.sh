# Set-up of a SWE-bench image: the evaluation script, where the image carries one, is hidden. Runs once per digest.
# Environment: WORKDIR is the repository, STAGE the folder that hidden files are moved to.
set -u
cd "$WORKDIR" || { echo "no $WORKDIR in the image"; exit 41; }
if [ -f /run_tests.sh ]; then
    mkdir -p "$STAGE"
    chmod +x /run_tests.sh
    mv /run_tests.sh "$STAGE/run_tests.sh" || exit 43
fi
rm -f /eval.sh
# Agents written for R2E-Gym look for the environment's tools below /root.
if [ -d /opt/miniconda3/envs/testbed ] && [ ! -e /root/.venv ]; then
    ln -s /opt/miniconda3/envs/testbed /root/.venv
fi
