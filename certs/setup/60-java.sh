# java_stores: the trust store of each JDK and JRE, links followed, but for those that
# others than root could exchange, with the keytool that goes with them.
java_stores() {
    for store in \
        "$R"/etc/ssl/certs/java/cacerts "$R"/etc/pki/ca-trust/extracted/java/cacerts \
        "$R"/usr/lib/jvm/*/lib/security/cacerts "$R"/usr/lib/jvm/*/jre/lib/security/cacerts \
        "$R"/usr/lib64/jvm/*/lib/security/cacerts "$R"/usr/java/*/lib/security/cacerts \
        "$R"/usr/local/*/lib/security/cacerts "$R"/opt/*/lib/security/cacerts \
        "$R"/opt/*/jre/lib/security/cacerts "$R"/opt/*/*/lib/security/cacerts \
        "$R"/root/.sdkman/candidates/java/*/lib/security/cacerts "$R"/home/*/.sdkman/candidates/java/*/lib/security/cacerts \
        "$R"/root/.jdks/*/lib/security/cacerts "$R"/home/*/.jdks/*/lib/security/cacerts \
        "$R${JAVA_HOME:-/nowhere}/lib/security/cacerts" "$R${JAVA_HOME:-/nowhere}/jre/lib/security/cacerts"; do
        real "${store#"$R"}"
        [ -f "$R$P" ] || continue
        if mine "$P"; then printf '%s\n' "$P"; else warn "$P is in a folder of somebody else's, and is left alone"; fi
    done | sort -u
}

# kt STORE ARGUMENT...: that of the JDK of the store, or any.
kt() (
    store=$1
    shift
    unset JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS _JAVA_OPTIONS
    home=${store%/lib/security/cacerts*}
    for tool in "$home/bin/keytool" "${home%/jre}/bin/keytool"; do
        if [ -z "$R" ] && [ -x "$tool" ]; then exec "$tool" -J-Duser.language=en "$@" -keystore "$store" -storepass changeit; fi
    done
    if command -v keytool >/dev/null; then exec keytool -J-Duser.language=en "$@" -keystore "$R$store" -storepass changeit; fi
    for tool in "$R"/usr/lib/jvm/*/bin/keytool "$R"/opt/*/bin/keytool "$R"/opt/*/*/bin/keytool; do
        if [ -x "$tool" ] && [ -z "$R" ]; then exec "$tool" -J-Duser.language=en "$@" -keystore "$store" -storepass changeit; fi
        if [ -x "$tool" ]; then exec chroot "$R" "${tool#"$R"}" -J-Duser.language=en "$@" -keystore "$store" -storepass changeit; fi
    done
    exit 127
)

# keep_java: what the stores are now, before a hook of the system's own store changes
# one of them.
keep_java() {
    java_stores >"$WORK/stores"
    [ -z "$DRY" ] || return 0
    PART=java
    while read -r store; do keep "$store" java; done <"$WORK/stores"
}

import_java() {
    while read -r store; do
        touched "$store"
        if ! kt "$store" -list -rfc </dev/null >"$WORK/listing" 2>"$WORK/problem"; then
            warn "$store cannot be read by keytool and is left alone: $(head -n 1 "$WORK/problem" "$WORK/listing" | tr '\n' ' ')"
            continue
        fi
        import "$store"
        [ -n "$DRY" ] || left "$store"
    done <"$WORK/stores"
}

# import STORE: those of our roots that are not in it, and out with those that were.
import() {
    : >"$WORK/edits"
    joined "$WORK/listing" >"$WORK/joined"
    for pem in "$WORK"/root-*.pem; do
        grep -qxF "$(joined "$pem")" "$WORK/joined" || printf 'larder-%s %s\n' "$(fingerprint "$pem" | cut -c1-16)" "$pem" >>"$WORK/edits"
    done
    ours | while read -r alias; do
        print=${alias##*larder-}
        grep -q "^${print%.pem}" "$WORK/fingerprints" || printf '%s\n' "$alias"
    done >>"$WORK/edits"
    [ -s "$WORK/edits" ] || return 0
    changing "change the trust store $1" || return 0
    edit "$1"
}

# ours: the aliases in $WORK/listing that are of us, or of Debian's hook for an anchor
# of ours, which takes none out again.
ours() {
    sed -n 's/^Alias name: \(debian:\)\{0,1\}\(larder-[0-9a-f]\{16\}\)\(\.pem\)\{0,1\}$/\1\2\3/p' "$WORK/listing"
}

# edit STORE: carry out $WORK/edits, all or none.
edit() {
    rm -f "$R$1.larder-new"
    if ! cp -p "$R$1" "$R$1.larder-new"; then
        warn "$1 cannot be written"
        return 0
    fi
    while read -r alias pem; do
        if [ -n "$pem" ]; then
            kt "$1.larder-new" -importcert -noprompt -trustcacerts -alias "$alias" -file "$pem" </dev/null
        else
            kt "$1.larder-new" -delete -alias "$alias" </dev/null
        fi >"$WORK/problem" 2>&1 || {
            warn "$1 is left alone: keytool says $(tail -n 1 "$WORK/problem")"
            rm -f "$R$1.larder-new"
            return 0
        }
    done <"$WORK/edits"
    mv -f "$R$1.larder-new" "$R$1"
}

# same_java: mark the stores that nobody has changed since we did.
same_java() {
    entries java >"$WORK/entries"
    while read -r e; do
        now=$(mark "$(cat "$e/path")")
        [ "$now" != "$(cat "$e/left" 2>/dev/null || echo "$now")" ] || : >"$WORK/same-${e##*/}"
    done <"$WORK/entries"
}

# restore_java E: the very file if nobody has changed it since, else without our
# entries.
restore_java() {
    if [ -e "$WORK/same-${1##*/}" ]; then
        [ "$(mark "$path")" != "$(digest "$1/was")" ] || return 0
        changing "restore $path" || return 0
        put_back "$1"
        return
    fi
    kt "$path" -list -rfc </dev/null >"$WORK/listing" 2>/dev/null || return 0
    ours >"$WORK/edits"
    [ -s "$WORK/edits" ] || return 0
    changing "take our entries out of $path" || return 0
    edit "$path"
}
