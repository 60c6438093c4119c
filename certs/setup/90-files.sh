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
    TRUST=$FILES
    roots
    if [ -n "$DRY" ]; then
        say "would write ca.pem, bundle.pem, apt.conf, wgetrc and php.ini into $TRUST"
        return
    fi
    mkdir -p "$TRUST"
    cat "$WORK/ca.pem" >"$WORK/new"
    place ca.pem
    bundle=$(bundles | head -n 1)
    cat "${bundle:-/dev/null}" >"$WORK/new"
    all_roots
    place bundle.pem
    printf 'Acquire::https::CaInfo "%s/bundle.pem";\n' "$TRUST" >"$WORK/new"
    place apt.conf
    printf 'ca_certificate = %s/bundle.pem\n' "$TRUST" >"$WORK/new"
    place wgetrc
    printf 'curl.cainfo = "%s/bundle.pem"\nopenssl.cafile = "%s/bundle.pem"\n' "$TRUST" "$TRUST" >"$WORK/new"
    place php.ini
    file_store
    exports | grep -v '^export JAVA_TOOL_OPTIONS='
    options="$(environment | sed -n 's/^JAVA_TOOL_OPTIONS=//p')$JAVA_STORE"
    printf "export APT_CONFIG='%s/apt.conf'\nexport WGETRC='%s/wgetrc'\nexport PHP_INI_SCAN_DIR=':%s'\nexport JAVA_TOOL_OPTIONS='%s'\n" "$TRUST" "$TRUST" "$TRUST" "$options"
}

# place NAME: $WORK/new, as a whole, for other jobs may be reading.
place() {
    cat "$WORK/new" >"$TRUST/.$1.$$"
    mv -f "$TRUST/.$1.$$" "$TRUST/$1"
}

# file_store: that of a JDK, with our roots, for JVMs take one alone.
file_store() {
    JAVA_STORE=''
    store=$(java_stores | head -n 1)
    [ -n "$store" ] || return 0
    cat "$store" >"$WORK/new"
    place cacerts
    kt "$TRUST/cacerts" -list -rfc </dev/null >"$WORK/listing" 2>/dev/null || return 0
    import "$TRUST/cacerts"
    JAVA_STORE=" -Djavax.net.ssl.trustStore=$TRUST/cacerts -Djavax.net.ssl.trustStorePassword=changeit"
}
