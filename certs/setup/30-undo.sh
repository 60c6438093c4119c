# restore E: what was there before.
restore() {
    path=$(cat "$1/path") kind=$(cat "$1/kind")
    was=$(cat "$1/left" 2>/dev/null || :)
    if [ "$kind" = p11 ]; then
        forget_p11 "$1"
    elif [ "$kind" = block ] && [ -n "$was" ] && [ "$(mark "$path")" != "$was" ] && [ -f "$R$path" ]; then
        restore_block "$1"
    elif [ "$kind" = java ]; then
        restore_java "$1"
    elif [ -e "$1/was" ] || [ -L "$1/was" ]; then
        changing "restore $path" || return 0
        put_back "$1"
    elif [ -e "$R$path" ] || [ -L "$R$path" ]; then
        changing "remove $path" || return 0
        rm -f "$R$path"
    fi
    [ "$kind" != anchor ] || STORE_CHANGED=1
    [ -n "$DRY" ] || rm -rf "$1"
}

# put_back E: the very file.
put_back() {
    folders "$(dirname "$path")"
    rm -rf "$R$path.larder-new"
    cp -pP "$1/was" "$R$path.larder-new"
    mv -f "$R$path.larder-new" "$R$path"
}

# restore_block E: somebody has changed the file since, so only our lines go.
restore_block() {
    strip "$R$path" >"$WORK/base" || {
        warn "$path has lines of ours without their end or beginning: remove them yourself"
        return 0
    }
    changing "take our lines out of $path" || return 0
    if [ ! -s "$WORK/base" ] && [ ! -e "$1/was" ]; then
        rm -f "$R$path"
        return 0
    fi
    cp -p "$R$path" "$R$path.larder-new"
    cat "$WORK/base" >"$R$path.larder-new"
    mv -f "$R$path.larder-new" "$R$path"
}

# entries KINDS: those of kinds, joined by |, the last first.
entries() {
    for e in "$STATE"/[0-9]*; do
        if [ -f "$e/kind" ] && grep -qxE "$1" "$e/kind"; then printf '%s\n' "$e"; fi
    done | sort -r
}

# stale KINDS: restore what an earlier run has changed and this one does not want so.
stale() {
    entries "$1" >"$WORK/entries"
    while read -r e; do
        part=$(cat "$e/part")
        if [ "$part" != roots ] && ! wanted "$part"; then continue; fi
        grep -qxF "$(cat "$e/path")" "$WORK/touched" || restore "$e"
    done <"$WORK/entries"
}

undo() {
    if [ ! -d "$STATE" ]; then
        say 'nothing to undo'
        return
    fi
    # Before the store is made anew, of which hooks change trust stores of JVMs.
    same_java
    for kinds in 'file|block' anchor p11; do
        entries "$kinds" >"$WORK/entries"
        while read -r e; do restore "$e"; done <"$WORK/entries"
    done
    update_store
    entries java >"$WORK/entries"
    while read -r e; do restore "$e"; done <"$WORK/entries"
    if [ -n "$DRY" ]; then
        finish
        return
    fi
    sort -r "$STATE/folders" >"$WORK/folders"
    rm -rf "$STATE"
    while read -r folder; do
        rmdir "$R$folder" 2>/dev/null || : # somebody else's files are in it by now
    done <"$WORK/folders"
    reload_units
    say 'undone; what runs keeps its environment until it is started again'
}
