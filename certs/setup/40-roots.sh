# fetch PATH FILE: from the kit. A proxy in the environment may be this one, which
# refuses to be asked for itself.
fetch() (
    unset http_proxy https_proxy HTTPS_PROXY all_proxy ALL_PROXY
    options=''
    if command -v curl >/dev/null; then
        case $KIT in https:*) options=-k ;; esac
        # shellcheck disable=SC2086 # words
        exec curl -q -fsS --noproxy '*' --connect-timeout 10 --max-time 60 $options -o "$2" "$KIT$1"
    fi
    # That of busybox has no --version, and where it has -T, versions that crash on it.
    ! wget --version >/dev/null 2>&1 || options='-T 20 -t 3'
    case $KIT in https:*) options="$options --no-check-certificate" ;; esac
    # shellcheck disable=SC2086
    WGETRC=/dev/null exec wget -q $options -O "$2" "$KIT$1"
)

# roots: $WORK/root-N.pem are those to be trusted, $WORK/ca.pem all of them, and
# $WORK/fingerprints their digests. That of the kit over TLS is not verified, for by
# what? It is the fingerprint that counts.
roots() {
    if [ -n "$CA" ]; then
        cat "$CA" >"$WORK/given.pem" || die "$CA cannot be read"
    else
        command -v curl >/dev/null || command -v wget >/dev/null ||
            die 'there is neither curl nor wget here' 'bring the root by other means: --ca FILE'
        fetch /ca.pem "$WORK/given.pem" || die "$KIT/ca.pem cannot be fetched"
    fi
    tr -d '\r' <"$WORK/given.pem" | awk -v dir="$WORK" '
        /^-----BEGIN CERTIFICATE-----$/ { n++; p = 1 }
        p { print >(dir "/given-" n ".pem") }
        /^-----END CERTIFICATE-----$/ { p = 0 }'
    [ -f "$WORK/given-1.pem" ] || die "there is no certificate in ${CA:-$KIT/ca.pem}"
    known
    out='' n=0
    : >"$WORK/ca.pem"
    : >"$WORK/fingerprints"
    for pem in "$WORK"/given-*.pem; do
        sed '/-----/d' "$pem" | base64 -d >"$WORK/der" 2>/dev/null || die "a certificate in ${CA:-$KIT/ca.pem} is damaged"
        fingerprint=$(fingerprint "$pem")
        if vouched "$fingerprint"; then
            n=$((n + 1))
            cat "$pem" >"$WORK/root-$n.pem"
            cat "$pem" >>"$WORK/ca.pem"
            printf '%s\n' "$fingerprint" >>"$WORK/fingerprints"
        else
            out="$out $fingerprint"
        fi
    done
    # shellcheck disable=SC2086 # each
    [ $n -gt 0 ] || refuse $out
    # shellcheck disable=SC2086
    [ -z "$out" ] || warn "left out, since no fingerprint vouches for it:$(written $out)"
}

# written FINGERPRINT...: as "larder ca show" writes them.
written() {
    for digits in "$@"; do
        printf ' SHA256:%s' "$(printf '%s' "$digits" | tr 'a-f' 'A-F' | sed 's/../&:/g; s/:$//')"
    done
}

fingerprint() { sed '/-----/d' "$1" | base64 -d | sha256sum | cut -c1-64; }

# known: the roots that this machine trusts since an earlier run.
known() {
    KNOWN=''
    real "$TRUST/ca.pem"
    [ -f "$R$P" ] && [ "$MODE" = setup ] || return 0
    awk -v dir="$WORK" '/BEGIN CERTIFICATE/ { n++ } { print >(dir "/known-" n ".pem") }' "$R$P"
    for pem in "$WORK"/known-*.pem; do
        [ ! -f "$pem" ] || KNOWN="$KNOWN $(fingerprint "$pem")"
    done
}

# vouched FINGERPRINT
vouched() {
    case "$GIVEN $VOUCHED $KNOWN " in *" $1 "*) return 0 ;; esac
    [ -n "$FIRST" ] && [ -z "$GIVEN$VOUCHED$KNOWN" ]
}

# refuse FINGERPRINT...: those that came.
refuse() {
    if [ -z "$GIVEN$VOUCHED$KNOWN" ]; then
        die "nothing vouches for the root that came,$(written "$@")" \
            "compare it with what 'larder ca show' prints on the proxy, and give it with --fingerprint; or --trust-on-first-use"
    fi
    # shellcheck disable=SC2086 # each
    die "the root that came is$(written "$@"), and not$(written $GIVEN $VOUCHED $KNOWN)" \
        "'larder ca show' on the proxy prints the right one; if that is what came, the root was replaced: give it with --fingerprint"
}

# joined FILE: the base64 of each certificate in a line of its own.
joined() {
    awk '/-----BEGIN/ { b = ""; p = 1; next } /-----END/ { if (p) print b; p = 0 } p { gsub(/[ \t\r]/, ""); b = b $0 }' "$1"
}

# trusts FILE: whether all roots are among its certificates.
trusts() {
    joined "$1" >"$WORK/joined"
    joined "$WORK/ca.pem" >"$WORK/wanted"
    while read -r certificate; do
        grep -qxF "$certificate" "$WORK/joined" || return 1
    done <"$WORK/wanted"
}

put_roots() {
    cat "$WORK/ca.pem" >"$WORK/new"
    put "$TRUST/ca.pem" file
}
