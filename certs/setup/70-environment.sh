# set_environment: for logins, by PAM and by shells.
set_environment() {
    environment | sed 's/^\([A-Za-z0-9_]*\)=\(.*\)$/\1="\2"/' >"$WORK/block"
    block /etc/environment
    {
        echo '# Made by setup.sh of larder, which takes it away with --undo. Changes are lost.'
        environment | exports
    } >"$WORK/new"
    put "$TRUST/env.sh" file
    if [ -d "$R/etc/profile.d" ]; then
        printf '# Made by setup.sh of larder, which takes it away with --undo.\n. %s/env.sh\n' "$TRUST" >"$WORK/new"
        put /etc/profile.d/larder.sh file
    fi
}

# exports: lines of NAME=VALUE as commands of any shell.
exports() {
    echo 'unset all_proxy ALL_PROXY'
    sed "s/^\\([A-Za-z0-9_]*\\)=\\(.*\\)\$/export \\1='\\2'/"
}

# set_apt: sudo keeps no variables, and apt finds the roots in the system's store.
set_apt() {
    [ -d "$R/etc/apt" ] || return 0
    {
        echo '// Made by setup.sh of larder, which takes it away with --undo. Changes are lost.'
        printf 'Acquire::http::Proxy "%s";\nAcquire::https::Proxy "%s";\n' "$PROXY" "$PROXY"
        for host in $(printf '%s' "$NO_PROXY_HOSTS" | tr ',' ' '); do
            case $host in
            .* | *:*) ;; # apt knows neither suffixes nor a port here
            *) printf 'Acquire::http::Proxy::%s "DIRECT";\nAcquire::https::Proxy::%s "DIRECT";\n' "$host" "$host" ;;
            esac
        done
        [ -n "${ANCHORS:-}" ] || printf 'Acquire::https::CaInfo "%s";\n' "$BUNDLE"
    } >"$WORK/new"
    put /etc/apt/apt.conf.d/99larder file
}

# set_dnf: as set_apt.
set_dnf() {
    for file in /etc/dnf/dnf.conf /etc/yum.conf; do
        [ -f "$R$file" ] || continue
        printf 'proxy=%s\n' "$PROXY" >"$WORK/block"
        ini "$file" main
        return
    done
}

# set_services: daemons get no variables of a login's.
set_services() {
    for unit in docker containerd crio buildkit nix-daemon; do
        for folder in /etc/systemd/system /usr/local/lib/systemd/system /usr/lib/systemd/system /lib/systemd/system; do
            [ -f "$R$folder/$unit.service" ] || continue
            {
                echo '# Made by setup.sh of larder, which takes it away with --undo. Changes are lost.'
                echo '[Service]'
                service | sed 's/%/%%/g; s/^\(.*\)$/Environment="\1"/'
            } >"$WORK/new"
            before=$CHANGED CHANGED=''
            put "/etc/systemd/system/$unit.service.d/larder.conf" file
            [ -z "$CHANGED" ] || RESTART="$RESTART systemctl restart $unit;"
            CHANGED=$before$CHANGED
            break
        done
        if [ -f "$R/etc/init.d/$unit" ] && [ -d "$R/etc/conf.d" ]; then # OpenRC
            service | sed "s/^\\([A-Za-z0-9_]*\\)=\\(.*\\)\$/export \\1='\\2'/" >"$WORK/block"
            block "/etc/conf.d/$unit"
        fi
    done
    reload_units
}

# reload_units: systemd is to read the drop-ins.
reload_units() {
    [ -z "$R$DRY$MINE" ] && [ -n "$CHANGED" ] && [ -d /run/systemd/system ] && command -v systemctl >/dev/null || return 0
    systemctl daemon-reload || warn 'systemctl daemon-reload failed: run it yourself'
}
