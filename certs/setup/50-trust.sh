# has PROGRAM
has() {
    for folder in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do
        [ ! -x "$R$folder/$1" ] || return 0
    done
    return 1
}

# run COMMAND...: in the system that is set up.
run() {
    if [ -z "$R" ]; then
        env "$@" >&2 </dev/null # not a function of ours by that name
    else
        chroot "$R" "$@" >&2 </dev/null
    fi
}

# find_store: ANCHORS is the folder of roots besides those of the distribution, and
# UPDATE what makes the store of both; by what is there, not by whose system it is.
find_store() {
    ANCHORS='' UPDATE='' SUFFIX=pem
    if has update-ca-certificates && [ -d "$R/etc/pki/trust/anchors" ]; then
        # SUSE, whose tool compares times of whole seconds unless it begins afresh.
        ANCHORS=/etc/pki/trust/anchors UPDATE='update-ca-certificates --fresh'
    elif has update-ca-certificates; then
        ANCHORS=/usr/local/share/ca-certificates UPDATE=update-ca-certificates SUFFIX=crt # Debian, Ubuntu, Alpine
    elif has update-ca-trust && [ -d "$R/etc/pki/ca-trust/source" ]; then
        ANCHORS=/etc/pki/ca-trust/source/anchors UPDATE='update-ca-trust extract' # Fedora, RHEL, Amazon
    elif has update-ca-trust && [ -d "$R/etc/ca-certificates/trust-source" ]; then
        ANCHORS=/etc/ca-certificates/trust-source/anchors UPDATE='update-ca-trust' # Arch
    fi
}

trust_roots() {
    find_store
    if [ -n "$ANCHORS" ]; then
        for pem in "$WORK"/root-*.pem; do
            cat "$pem" >"$WORK/new"
            put "$ANCHORS/larder-$(fingerprint "$pem" | cut -c1-16).$SUFFIX" anchor
        done
    elif has trust; then
        for pem in "$WORK"/root-*.pem; do store_p11 "$pem"; done
    else
        append_roots
    fi
}

# store_p11 PEM: p11-kit alone.
store_p11() {
    fingerprint=$(fingerprint "$1")
    touched "$fingerprint"
    ! entry "$fingerprint" || return 0
    changing "store the root $fingerprint with p11-kit" || return 0
    keep "$fingerprint" p11
    cat "$1" >"$E/was"
    run_p11 --store "$E/was"
}

# run_p11 OPTION FILE
run_p11() {
    pem=$(mktemp "$R/tmp/larder.XXXXXX")
    cat "$2" >"$pem"
    run trust anchor "$1" "${pem#"$R"}" || warn "trust anchor $1 failed: run it yourself${R:+, in $R}"
    rm -f "$pem"
}

forget_p11() {
    changing "remove the root $path from the store of p11-kit" || return 0
    run_p11 --remove "$1/was"
}

# append_roots: to the bundles themselves, where nothing is there to make them.
append_roots() {
    cat "$WORK/ca.pem" >"$WORK/block"
    bundles | while read -r bundle; do
        real "$bundle"
        printf '%s\n' "$P"
    done | sort -u >"$WORK/bundles"
    [ -s "$WORK/bundles" ] || warn "there is no trust store here: only what reads the environment trusts larder"
    while read -r bundle; do block "$bundle"; done <"$WORK/bundles"
}

# bundles: those of the system, of which the first is the one that is used.
bundles() {
    for bundle in \
        /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem \
        /var/lib/ca-certificates/ca-bundle.pem /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem \
        /etc/ssl/certs/ca-bundle.crt /etc/ssl/cert.pem; do
        real "$bundle"
        [ ! -f "$R$P" ] || printf '%s\n' "$bundle"
    done
}

# update_store: make it anew if an anchor has come or gone.
update_store() {
    [ -n "$STORE_CHANGED" ] && [ -z "$DRY" ] || return 0
    find_store
    [ -n "$UPDATE" ] || return 0
    # shellcheck disable=SC2086 # words
    run $UPDATE || warn "$UPDATE failed: run it yourself${R:+, in $R}"
    orphans
}

# orphans: links to anchors that went, which Debian's tool leaves where nothing came.
# First those that lead there, then those of hashed names that lead to these.
orphans() {
    for names in 'larder-*.pem' '*.[0-9]'; do
        for path in "$R"/etc/ssl/certs/$names; do
            [ -L "$path" ] || continue
            real "${path#"$R"}"
            case $(readlink "$path") in
            larder-* | "$ANCHORS"/larder-*) [ -e "$R$P" ] || rm -f "$path" ;;
            esac
        done
    done
}

# put_bundle: all roots in a file that containers can have, and BUNDLE, for those who
# read no store: the system's own file, which follows its updates, if it has ours.
put_bundle() {
    BUNDLE=$(bundles | head -n 1)
    : >"$WORK/new"
    good=''
    if [ -n "$BUNDLE" ]; then
        real "$BUNDLE"
        cat "$R$P" >"$WORK/new"
        ! trusts "$WORK/new" || good=1
    fi
    if [ -n "$DRY" ] && [ -z "$good" ]; then # what the store would be is not known
        for name in bundle.pem truststore.p12 $SETTINGS; do touched "$TRUST/$name"; done
        BUNDLE=${BUNDLE:-$TRUST/bundle.pem}
        return 0
    fi
    if [ -z "$good" ]; then
        BUNDLE=$TRUST/bundle.pem
        all_roots
    fi
    put "$TRUST/bundle.pem" file
    put_others put
}

# all_roots: $WORK/new with ours at the end.
all_roots() {
    [ -s "$WORK/new" ] || warn 'this system has no roots of its own: bundle.pem has larder'"'"'s alone, which is enough for the hosts that it opens'
    [ -z "$(tail -c 1 "$WORK/new")" ] || echo >>"$WORK/new"
    cat "$WORK/ca.pem" >>"$WORK/new"
}
