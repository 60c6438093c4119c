usage() {
    cat <<LARDER_END
Makes this machine use the proxy $PROXY and trust its root.

  sh setup.sh [--fingerprint SHA256:...] [options]
  sh setup.sh --undo [--dry-run]
  sh setup.sh --user [--undo] [--dry-run]
  eval "\$(sh setup.sh --files DIR [--fingerprint SHA256:...])"

  --fingerprint SHA256:HEX   SHA-256 of larder's root, as "larder ca show" prints it on
                             the proxy; again for the other root of a rotation
  --trust-on-first-use       take the root that comes, whosever it is, and no other later
  --from URL                 where to get the root (default: $KIT)
  --ca FILE                  take the root from a file in PEM instead
  --only PART,... --skip PART,...
                             of trust, java, environment, apt, dnf, services, npm, pip,
                             maven, gradle; what an earlier run did for others stays
  --home DIR                 home folder for Maven's and Gradle's settings; may be repeated
                             (default: that of who runs this, also by way of sudo)
  --user                     no change to the system: Maven's and Gradle's settings of who
                             runs this, for homes that are not root's to write in
  --files DIR                no change to the system: put the files into DIR and print the
                             environment for them, as commands of a shell
  --format lines             with --files: print lines of NAME=VALUE
  --undo                     restore what was there before
  --dry-run                  say what would be done, and do nothing

LARDER_ROOT=/mnt/image in the environment: set up the system below that folder.
LARDER_END
}

say() { printf 'larder: %s\n' "$*" >&2; }
warn() { printf 'larder: warning: %s\n' "$*" >&2; }

# die PROBLEM [HINT]
die() {
    printf 'larder: error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'larder: hint: %s\n' "$2" >&2
    exit 1
}

misused() {
    printf 'larder: error: %s\nlarder: hint: sh setup.sh --help\n' "$1" >&2
    exit 2
}

PARTS='trust java environment apt dnf services npm pip maven gradle'

# list NAMES: separated by blanks, each one a part.
list() {
    names=$(printf '%s' "$1" | tr ',' ' ')
    for name in $names; do
        case " $PARTS " in *" $name "*) ;; *) misused "there is no part $name, only $PARTS" ;; esac
    done
    printf ' %s ' "$names"
}

parse() {
    MODE=setup DRY='' MINE='' FIRST='' GIVEN='' CA='' ONLY=" $PARTS " SKIP='' HOMES='' FILES='' FORMAT=sh
    while [ $# -gt 0 ]; do
        case $1 in
        --fingerprint | --from | --ca | --only | --skip | --home | --files | --format)
            [ $# -gt 1 ] || misused "$1 needs a value"
            ;;
        esac
        case $1 in
        --fingerprint) GIVEN="$GIVEN $(normal "$2")" || exit 2; shift ;;
        --trust-on-first-use) FIRST=1 ;;
        --from) KIT=${2%/}; shift ;;
        --ca) CA=$2; shift ;;
        --only) ONLY=$(list "$2") || exit 2; shift ;;
        --skip) SKIP="$SKIP$(list "$2")" || exit 2; shift ;;
        --home) HOMES="$HOMES$2
"; shift ;;
        --files) MODE=files FILES=$2; shift ;;
        --format)
            case $2 in
            sh | lines) FORMAT=$2; shift ;;
            *) misused "--format is sh or lines" ;;
            esac
            ;;
        --undo) MODE=undo ;;
        --user) MINE=1 ;;
        --dry-run) DRY=1 ;;
        --help | -h) usage; exit 0 ;;
        *) misused "there is no option $1" ;;
        esac
        shift
    done
}

# normal FINGERPRINT: 64 lower-case digits.
normal() {
    digits=$(printf '%s' "$1" | tr 'A-F' 'a-f' | sed 's/^[Ss][Hh][Aa]-*256://' | tr -d ': ')
    case $digits in *[!0-9a-f]*) digits= ;; esac
    [ ${#digits} -eq 64 ] || misused "$1 is no SHA-256 fingerprint, which has 64 hexadecimal digits"
    printf '%s' "$digits"
}

wanted() {
    case "$SKIP" in *" $1 "*) return 1 ;; esac
    case "$ONLY" in *" $1 "*) return 0 ;; esac
    return 1
}

prepare() {
    LC_ALL=C PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    export LC_ALL PATH
    umask 022
    for tool in awk sed sha256sum base64 mktemp readlink; do
        command -v "$tool" >/dev/null || die "there is no $tool here" "install coreutils, sed and awk, or busybox"
    done
    R=${LARDER_ROOT:-}
    R=${R%/}
    case $R in
    '' | /*) [ -z "$R" ] || [ -d "$R" ] || die "LARDER_ROOT=$R is no folder" ;;
    *) die "LARDER_ROOT=$R is no absolute path" ;;
    esac
    TRUST=/etc/larder/trust
    STATE=$R/var/lib/larder-setup
    [ -z "$MINE" ] || only_user
    CHANGED='' STORE_CHANGED='' RESTART='' PART=''
    WORK=$(mktemp -d)
    trap 'rm -rf "$WORK"' EXIT
    trap 'exit 1' HUP INT TERM
    : >"$WORK/touched"
}

# only_user: what --user changes, and where it remembers what was there.
only_user() {
    [ -z "$R$HOMES$FILES" ] || misused '--user means nothing with LARDER_ROOT, --home or --files'
    case ${HOME:-} in /?*) ;; *) die 'HOME names no folder' ;; esac
    [ -d "$HOME" ] || die "there is no folder $HOME"
    STATE=$HOME/.larder-setup
}

# settings_of_user: the parts that need no root.
settings_of_user() {
    for PART in maven gradle; do
        ! wanted "$PART" || "set_$PART"
    done
    stale 'file|block'
    finish
}

main() {
    parse "$@"
    prepare
    if [ "$MODE" = files ]; then
        only_files
        return
    fi
    if [ -n "$MINE" ]; then
        if [ "$MODE" = undo ]; then undo; else settings_of_user; fi
        return
    fi
    [ -w "$R/etc" ] || die "$R/etc cannot be written" "run it as root, or put the files elsewhere: --files DIR"
    if [ "$MODE" = undo ]; then
        undo
        return
    fi
    roots
    ! wanted java || keep_java
    PART=roots
    put_roots
    PART=trust
    ! wanted trust || trust_roots
    stale 'anchor|p11'
    update_store
    PART=roots
    put_bundle
    ! wanted java || import_java
    for PART in environment apt dnf services npm pip maven gradle; do
        ! wanted "$PART" || "set_$PART"
    done
    stale 'file|block'
    finish
}

finish() {
    if [ -n "$DRY" ]; then
        say 'nothing was changed: --dry-run'
    elif [ -z "$CHANGED" ]; then
        say 'nothing to change'
    elif [ -n "$MINE" ]; then
        say 'done'
    else
        say "done; log in again for the environment, or: . $TRUST/env.sh"
    fi
    [ -z "$RESTART" ] || say "to take effect there:$RESTART"
}
