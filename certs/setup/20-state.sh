# What changes the machine. Each path that is changed has a numbered folder in $STATE:
# its name, its kind, the part that did it, what was there before (was; none: nothing)
# and a digest of what was left there. A later run finds it and keeps the first. The kinds are
#   file    wholly ours
#   anchor  the same, after which the trust store is to be made anew
#   block   somebody else's, with lines of ours between two marks
#   java    a JVM's trust store, with entries of ours
#   p11     no path, but the fingerprint of an anchor in the store of p11-kit

BEGIN='larder setup: begin'
END='larder setup: end'

# real PATH: P is where PATH leads, below LARDER_ROOT as if that were the root.
real() {
    P='' rest=$1 links=0
    while [ -n "$rest" ]; do
        case $rest in
        /*) rest=${rest#/}; continue ;;
        */*) part=${rest%%/*} rest=${rest#*/} ;;
        *) part=$rest rest='' ;;
        esac
        case $part in
        .) continue ;;
        ..) P=${P%/*}; continue ;;
        esac
        if [ -L "$R$P/$part" ]; then
            links=$((links + 1))
            [ $links -le 40 ] || die "$1 leads in a circle"
            to=$(readlink "$R$P/$part")
            case $to in /*) P='' ;; esac
            rest=$to/$rest
        else
            P=$P/$part
        fi
    done
}

digest() { sha256sum <"$1" | cut -c1-64; }

# mark PATH: says what is there.
mark() {
    if [ -L "$R$1" ]; then
        printf 'link %s\n' "$(readlink "$R$1")"
    elif [ -f "$R$1" ]; then
        digest "$R$1"
    else
        echo nothing
    fi
}

# entry PATH: E is its folder in $STATE, or nothing.
entry() {
    for E in "$STATE"/[0-9]*; do
        if [ -f "$E/path" ] && [ "$(cat "$E/path")" = "$1" ]; then return 0; fi
    done
    E=''
    return 1
}

# open_state makes $STATE, which is private: what was there may hold secrets.
open_state() {
    [ ! -d "$STATE" ] || return 0
    missing='' folder=${STATE%/*}
    while [ ! -d "$folder" ]; do
        missing="${folder#"$R"}
$missing" folder=${folder%/*}
    done
    mkdir -p "${STATE%/*}"
    (umask 077 && mkdir "$STATE" && printf '%s' "$missing" >"$STATE/folders")
}

# keep PATH KIND: remember what is there, unless that was done before.
keep() {
    ! entry "$1" || return 0
    open_state
    (
        umask 077
        rm -rf "$STATE/new"
        mkdir "$STATE/new"
        if [ "$2" != p11 ] && { [ -e "$R$1" ] || [ -L "$R$1" ]; }; then cp -pP "$R$1" "$STATE/new/was"; fi
        printf '%s\n' "$1" >"$STATE/new/path"
        printf '%s\n' "$2" >"$STATE/new/kind"
        printf '%s\n' "$PART" >"$STATE/new/part"
    )
    number=1000
    for E in "$STATE"/[0-9]*; do
        [ ! -d "$E" ] || number=$((${E##*/} + 1))
    done
    E=$STATE/$number
    mv "$STATE/new" "$E"
}

# left PATH: note what we leave there.
left() {
    if entry "$1"; then mark "$1" >"$E/left"; fi
}

# folders PATH: make what is missing of it.
folders() {
    [ ! -d "$R$1" ] || return 0
    folders "$(dirname "$1")"
    mkdir "$R$1"
    own "$1"
    open_state
    printf '%s\n' "$1" >>"$STATE/folders"
}

# own PATH: what is made in somebody's home is his.
own() {
    [ -z "${OWNER:-}" ] || chown "$OWNER" "$R$1"
}

touched() { printf '%s\n' "$1" >>"$WORK/touched"; }

# changing WHAT: say so, and fail if it is only to be said.
changing() {
    CHANGED=1
    if [ -n "$DRY" ]; then
        say "would $1"
        return 1
    fi
    say "$1"
}

# put PATH KIND: $WORK/new is to be there.
put() {
    real "$(dirname "$1")"
    path=$P/$(basename "$1")
    touched "$path"
    if [ -f "$R$path" ] && [ ! -L "$R$path" ] && [ "$(digest "$R$path")" = "$(digest "$WORK/new")" ]; then return 0; fi
    [ ! -d "$R$path" ] || die "$path is a folder"
    changing "write $path" || return 0
    keep "$path" "$2"
    folders "$(dirname "$path")"
    if [ -f "$R$path" ] && [ ! -L "$R$path" ]; then
        cp -p "$R$path" "$R$path.larder-new" # for mode and owner
        cat "$WORK/new" >"$R$path.larder-new"
    else
        cat "$WORK/new" >"$R$path.larder-new"
        chmod 644 "$R$path.larder-new"
        own "$path.larder-new"
    fi
    mv -f "$R$path.larder-new" "$R$path"
    left "$path"
    [ "$2" != anchor ] || STORE_CHANGED=1
}

# strip FILE: without our lines.
strip() {
    begins=$(grep -c "$BEGIN" "$1" || :)
    [ "$begins" = "$(grep -c "$END" "$1" || :)" ] || return 1
    if [ "$begins" = 0 ]; then
        cat "$1"
    else
        sed "/$BEGIN/,/$END/d" "$1"
    fi
}

# base PATH: P is where it leads, $WORK/base what is there of others.
base() {
    real "$1"
    : >"$WORK/base"
    [ ! -f "$R$P" ] || strip "$R$P" >"$WORK/base" || {
        warn "$P has lines of ours without their end or beginning, and is left alone"
        touched "$P"
        return 1
    }
}

# marked [OPEN CLOSE]: $WORK/block between its marks, in comments of that kind.
marked() {
    printf '%s %s%s\n' "${1:-#}" "$BEGIN" "${2:-}"
    cat "$WORK/block"
    printf '%s %s%s\n' "${1:-#}" "$END" "${2:-}"
}

# block PATH: $WORK/block is to stand at its end.
block() {
    base "$1" || return 0
    {
        cat "$WORK/base"
        [ -z "$(tail -c 1 "$WORK/base")" ] || echo
        marked
    } >"$WORK/new"
    put "$P" block
}
