# only_files: for who may not change the system, or does not want to.
only_files() {
    case $FILES in
    /*) ;;
    *) FILES=$PWD/$FILES ;;
    esac
    FILES=${FILES%/}
    case $FILES in
    *[!A-Za-z0-9/._+@-]*) die "the path $FILES has characters that some tools take for others" 'choose a folder of letters, digits and ._+@-' ;;
    esac
    [ -z "$R" ] || die '--files means nothing with LARDER_ROOT' 'name the folder itself'
    TRUST=$FILES BUNDLE=$FILES/bundle.pem
    roots
    if [ -n "$DRY" ]; then
        say "would write ca.pem, bundle.pem, truststore.p12 and ${SETTINGS}into $TRUST"
        return
    fi
    mkdir -p "$TRUST"
    private "$TRUST" || die "others can write in $TRUST, and would say whom you trust" "chmod go-w $TRUST, or name a folder of yours"
    cat "$WORK/ca.pem" >"$WORK/new"
    place "$TRUST/ca.pem"
    bundle=$(bundles | head -n 1)
    cat "${bundle:-/dev/null}" >"$WORK/new"
    trusts "$WORK/new" || all_roots
    place "$TRUST/bundle.pem"
    put_others place
    if [ "$FORMAT" = lines ]; then
        job
    else
        job | exports
    fi
}

# place PATH: $WORK/new, as a whole, for other jobs may be reading.
place() {
    cat "$WORK/new" >"$1.$$"
    mv -f "$1.$$" "$1"
}
