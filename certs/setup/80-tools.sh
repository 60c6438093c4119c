# ini PATH SECTION: $WORK/block, lines of KEY=VALUE, below the section's header. A key
# that is set there already stays as it is.
ini() {
    base "$1" || return 0
    awk -v want="[$2]" '
        { t = $0; gsub(/[ \t\r]/, "", t) }
        t ~ /^\[/ { in_it = t == want; if (in_it) print want }
        in_it && t ~ /^[^#;=]+=/ { sub(/=.*/, "", t); print t }' "$WORK/base" >"$WORK/keys"
    while IFS= read -r line; do
        key=${line%%=*}
        if grep -qxF "$key" "$WORK/keys"; then
            warn "$P sets $key, which is left as it is"
        else
            printf '%s\n' "$line"
        fi
    done <"$WORK/block" >"$WORK/lines"
    if [ ! -s "$WORK/lines" ]; then
        touched "$P"
        return 0
    fi
    if ! grep -qxF "[$2]" "$WORK/keys"; then
        { printf '[%s]\n' "$2"; cat "$WORK/lines"; } >"$WORK/block"
        block "$1"
        return
    fi
    mv "$WORK/lines" "$WORK/block"
    marked >"$WORK/insert"
    awk -v want="[$2]" '
        FNR == NR { insert = insert $0 "\n"; next }
        { print; t = $0; gsub(/[ \t\r]/, "", t) }
        t == want && !done { printf "%s", insert; done = 1 }' "$WORK/insert" "$WORK/base" >"$WORK/new"
    put "$P" block
}

# set_pip: what sudo runs has no variables.
set_pip() {
    for python in python3 python pip pip3; do
        has "$python" || continue
        printf 'proxy=%s\ncert=%s\n' "$PROXY" "$BUNDLE" >"$WORK/block"
        ini /etc/pip.conf global
        return
    done
}

# set_npm: the same, in the file that is npm's for all users of a prefix.
set_npm() {
    for prefix in /usr /usr/local; do
        [ -e "$R$prefix/bin/npm" ] || [ -L "$R$prefix/bin/npm" ] || continue
        file=$prefix/etc/npmrc
        [ ! -d "$R/usr/share/nodejs/npm" ] || [ "$prefix" != /usr ] || file=/etc/npmrc # Debian's
        {
            printf 'proxy=%s\nhttps-proxy=%s\n' "$PROXY" "$PROXY"
            printf 'noproxy=%s\ncafile=%s\n' "$NO_PROXY_HOSTS" "$BUNDLE"
        } >"$WORK/block"
        block "$file"
    done
}

# homes: those whose settings of Maven and Gradle are written, each in a line.
homes() {
    if [ -n "$HOMES" ]; then
        printf '%s' "$HOMES"
    elif [ -n "$R" ]; then
        echo /root
    elif [ -n "${SUDO_USER:-}" ]; then
        awk -F: -v user="$SUDO_USER" '$1 == user { print $6 }' /etc/passwd
    else
        printf '%s\n' "${HOME:-/root}"
    fi
}

# in_homes COMMAND: for each home, if there is a JVM for it at all.
in_homes() {
    homes >"$WORK/homes"
    while read -r home; do
        home=${home%/}
        if [ -z "$home" ] || [ ! -d "$R$home" ]; then continue; fi
        if ! mine "$home"; then
            warn "$home is somebody else's, who could have root write elsewhere, and is left alone; he does it himself: sh setup.sh --user"
            continue
        fi
        OWNER=$(stat -c %u:%g "$R$home")
        "$1" "$home"
        OWNER=''
    done <"$WORK/homes"
}

any_java() { [ -n "$(java_stores)" ] || has java; }

# set_gradle: its daemon has the environment of whoever started it first, and the
# options of JVMs do not reach its wrapper everywhere.
set_gradle() {
    [ -n "$PROXY_HOST" ] || return 0
    in_homes gradle_home
}

gradle_home() {
    [ -d "$R$1/.gradle" ] || any_java || return 0
    for scheme in http https; do
        printf 'systemProp.%s.proxyHost=%s\nsystemProp.%s.proxyPort=%s\nsystemProp.%s.nonProxyHosts=%s\n' \
            $scheme "$PROXY_HOST" $scheme "$PROXY_PORT" $scheme "$JVM_NO_PROXY_HOSTS"
    done >"$WORK/block"
    block "$1/.gradle/gradle.properties"
}

# set_maven: it takes the properties of the JVM for proxies that JAVA_TOOL_OPTIONS has, as
# the versions do that were tried (3.8, 3.9, 4.0); a JVM that has no such variable, of an
# IDE or a service, finds the proxy here alone.
set_maven() {
    [ -n "$PROXY_HOST" ] || return 0
    if [ -n "$MINE" ]; then
        in_homes maven_home
        return
    fi
    for conf in "$R"/etc/maven "$R"/usr/share/maven*/conf "$R"/opt/*maven*/conf "$R"/usr/local/*maven*/conf \
        "$R${MAVEN_HOME:-/nowhere}/conf"; do
        real "${conf#"$R"}/settings.xml"
        [ ! -f "$R$P" ] || printf '%s\n' "$P"
    done | sort -u >"$WORK/confs"
    while read -r file; do maven_file "$file"; done <"$WORK/confs"
    in_homes maven_home
}

maven_home() {
    [ -d "$R$1/.m2" ] || any_java || return 0
    maven_file "$1/.m2/settings.xml"
}

# maven_file PATH: two proxies in its settings.
maven_file() {
    base "$1" || return 0
    for scheme in http https; do
        printf '    <proxy><id>larder-%s</id><active>true</active><protocol>%s</protocol><host>%s</host><port>%s</port><nonProxyHosts>%s</nonProxyHosts></proxy>\n' \
            $scheme $scheme "$PROXY_HOST" "$PROXY_PORT" "$JVM_NO_PROXY_HOSTS"
    done >"$WORK/block"
    if [ ! -s "$WORK/base" ]; then
        {
            printf '<settings>\n  <proxies>\n'
            marked '<!--' ' -->'
            printf '  </proxies>\n</settings>\n'
        } >"$WORK/new"
        put "$P" file
        return
    fi
    if [ "$(tag '</proxies>')" = 1 ]; then
        before='</proxies>'
    elif [ "$(tag '</settings>')" = 1 ] && [ "$(tag '<proxies')" = 0 ]; then
        before='</settings>'
        { echo '  <proxies>'; cat "$WORK/block"; echo '  </proxies>'; } >"$WORK/new"
        mv "$WORK/new" "$WORK/block"
    else
        warn "$P is not laid out so that proxies can be written into it; it is left alone"
        touched "$P"
        return 0
    fi
    marked '<!--' ' -->' >"$WORK/insert"
    insert_before "$before"
    put "$P" block
}

# XML: what is in comments does not count.
XML='
    function visible(line,  out, i) {
        out = ""
        while (line != "") {
            if (comment) {
                i = index(line, "-->")
                if (!i) return out
                line = substr(line, i + 3)
                comment = 0
            } else {
                i = index(line, "<!--")
                if (!i) return out line
                out = out substr(line, 1, i - 1)
                line = substr(line, i + 4)
                comment = 1
            }
        }
        return out
    }
    function trimmed(s) { gsub(/^[ \t\r]+|[ \t\r]+$/, "", s); return s }'

# tag TAG: how many lines have it, or are it alone if it is an end.
tag() {
    awk -v want="$1" "$XML"'
        { v = trimmed(visible($0)) }
        want ~ /^<\// ? v == want : index(v, want) { n++ }
        END { print n + 0 }' "$WORK/base"
}

# insert_before TAG: $WORK/insert into $WORK/base.
insert_before() {
    awk -v want="$1" "$XML"'
        FNR == NR { insert = insert $0 "\n"; next }
        trimmed(visible($0)) == want && !done { printf "%s", insert; done = 1 }
        { print }' "$WORK/insert" "$WORK/base" >"$WORK/new"
}
