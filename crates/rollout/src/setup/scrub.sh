
# Scrub of the repository's future: everything that is not reachable from HEAD goes, and that is verified by
# listing all objects. Runs after the family's own set-up, in the same shell.
scrub() {
    export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' GIT_OPTIONAL_LOCKS=0
    cd "$WORKDIR" || return 1
    [ -e .git ] || return 0
    if ! command -v git >/dev/null 2>&1; then
        # Without git nobody inside can need it as a repository, but its objects could still be read.
        rm -rf .git
        echo "deviation: the image has no git, so .git was removed"
        return 0
    fi
    git rev-parse -q --verify 'HEAD^{commit}' >/dev/null || { rm -rf .git; echo "deviation: .git without a HEAD was removed"; return 0; }
    local branch gitdir
    gitdir=$(git rev-parse --absolute-git-dir) || return 1
    branch=$(git symbolic-ref -q HEAD || true)

    # Refs: only the checked-out branch and tags of the past stay. Symbolic refs (origin/HEAD) go first, because git
    # refuses to delete a ref together with one that points to it.
    git for-each-ref --format='%(symref) %(refname)' | while read -r target name; do
        [ -n "$name" ] && [ -n "$target" ] && git symbolic-ref --delete "$name"
    done
    git for-each-ref --format='%(refname)' --merged HEAD refs/tags >"$gitdir/keep-refs" || return 1
    [ -n "$branch" ] && echo "$branch" >>"$gitdir/keep-refs"
    git for-each-ref --format='%(refname)' | grep -vxF -f "$gitdir/keep-refs" | sed 's/^/delete /' | git update-ref --stdin || return 1
    rm -f "$gitdir/keep-refs"
    git remote | while read -r remote; do git remote remove "$remote"; done
    rm -rf "$gitdir"/{logs,FETCH_HEAD,ORIG_HEAD,MERGE_HEAD,CHERRY_PICK_HEAD,REVERT_HEAD,REBASE_HEAD,AUTO_MERGE,BISECT_LOG,rr-cache,lost-found,worktrees,refs/original,refs/remotes,refs/stash,svn}
    rm -rf "$gitdir"/objects/info/commit-graph "$gitdir"/objects/info/commit-graphs
    rm -f "$gitdir"/objects/pack/*.keep "$gitdir"/objects/pack/*.bitmap "$gitdir"/objects/pack/multi-pack-index*
    if [ -e "$gitdir/shallow" ]; then echo "deviation: the repository is shallow"; fi

    # Objects: repack what is reachable, drop the rest, then prove it.
    git config --unset-all gc.pruneExpire 2>/dev/null
    git -c core.logAllRefUpdates=false repack -a -d -q || return 1
    rm -f "$gitdir"/objects/info/alternates
    git prune --expire=now || return 1
    local everything reachable
    everything=$(git cat-file --batch-all-objects --batch-check='%(objectname)' | LC_ALL=C sort -u | sha256sum) || return 1
    reachable=$({ git rev-list --objects --all --indexed-objects HEAD; git for-each-ref --format='%(objectname)'; } |
        cut -d' ' -f1 | LC_ALL=C sort -u | sha256sum) || return 1
    [ "$everything" = "$reachable" ] || { echo "objects beyond HEAD remain after the scrub"; return 1; }
    git update-index -q --refresh >/dev/null 2>&1
    return 0
}
scrub || { echo "scrub of the repository's history failed"; exit 51; }
