# mine PATH: whether nobody but root and who runs this can put something else in its
# place. Whoever can could have root write elsewhere, or run a keytool of his.
mine() {
    [ -z "$R" ] || return 0 # an image, in which nobody is
    folder=$1
    while :; do
        owner=$(stat -c '%u %a' "$folder" 2>/dev/null) || return 1
        mode=${owner#* }
        case " 0 $(id -u) ${SUDO_UID:-0} " in *" ${owner% *} "*) ;; *) return 1 ;; esac
        case $mode in
        [1357]???) ;; # sticky
        *[2367]) return 1 ;;
        esac
        [ "$folder" != / ] || return 0
        folder=$(dirname "$folder")
    done
}

# private FOLDER: whether nobody but who runs this can write in it.
private() {
    mode=$(stat -Lc '%A %u' "$1") || return 1
    case " $(id -u) ${SUDO_UID:-$(id -u)} " in *" ${mode#* } "*) ;; *) return 1 ;; esac
    case $mode in ?????w* | ????????w*) return 1 ;; esac
}
