# A stand-in for conda's shell part: conda activate and conda deactivate change PATH as conda does.
export CONDA_EXE=/opt/miniconda3/bin/conda CONDA_PYTHON_EXE=/opt/miniconda3/bin/python

__conda_without_environment() {
    # Prints PATH without the folders of the active environment.
    printf '%s' "$PATH" | sed -e "s#\(^\|:\)${CONDA_PREFIX:-/nonexistent}/bin\(:\|\$\)#\1#" -e 's#:$##'
}

__conda_activate() {
    case "$1" in
        base) __conda_prefix=/opt/miniconda3 ;;
        /*) __conda_prefix=$1 ;;
        *) __conda_prefix=/opt/miniconda3/envs/$1 ;;
    esac
    if [ ! -d "$__conda_prefix" ]; then
        echo "EnvironmentNameNotFound: Could not find conda environment: $1" >&2
        return 1
    fi
    PATH=$__conda_prefix/bin:$(__conda_without_environment)
    export PATH CONDA_PREFIX="$__conda_prefix" CONDA_DEFAULT_ENV="$1" CONDA_SHLVL=1 CONDA_PROMPT_MODIFIER="($1) "
    unset __conda_prefix
    hash -r
}

__conda_deactivate() {
    PATH=$(__conda_without_environment)
    export PATH CONDA_SHLVL=0
    unset CONDA_PREFIX CONDA_DEFAULT_ENV CONDA_PROMPT_MODIFIER
    hash -r
}

conda() {
    case "${1:-}" in
        activate) __conda_activate "${2:-base}" ;;
        deactivate) __conda_deactivate ;;
        *) "$CONDA_EXE" "$@" ;;
    esac
}
