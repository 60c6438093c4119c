# p12 FILE: the certificates of a file in PEM as a PKCS #12 trust store for JVMs, on
# standard output; without keytool, which containers' hosts lack. It has neither a MAC
# nor encryption, which JVMs take with any password (RFC 7292; the attribute that makes
# an anchor of a certificate is Oracle's). awk writes bytes as \ooo, four characters.
p12() {
    # shellcheck disable=SC2059 # there is nothing but escapes in it
    printf "$(awk '
        function byte(n) { return sprintf("\\%03o", n) }
        function der(tag, content,  n, head) {
            n = length(content) / 4
            if (n < 128) return byte(tag) byte(n) content
            while (n > 0) { head = byte(n % 256) head; n = int(n / 256) }
            return byte(tag) byte(128 + length(head) / 4) head content
        }
        function decode(s,  i, n, out) {
            for (i = 1; i <= length(s); i += 4) {
                n = ((value[substr(s, i, 1)] * 64 + value[substr(s, i + 1, 1)]) * 64 + value[substr(s, i + 2, 1)]) * 64 + value[substr(s, i + 3, 1)]
                out = out byte(int(n / 65536)) byte(int(n / 256) % 256) byte(n % 256)
            }
            n = s ~ /==$/ ? 2 : s ~ /=$/ ? 1 : 0
            return substr(out, 1, length(out) - 4 * n)
        }
        function name(n,  i, s, out) {
            s = "root-" n
            for (i = 1; i <= length(s); i++) out = out byte(0) byte(index(ascii, substr(s, i, 1)) + 31)
            return out
        }
        function bag(n, certificate) {
            return der(48, der(6, cert_bag) \
                der(160, der(48, der(6, x509) der(160, der(4, certificate)))) \
                der(49, der(48, der(6, friendly_name) der(49, der(30, name(n)))) \
                    der(48, der(6, trusted_usage) der(49, der(6, any_usage)))))
        }
        function content(of) { return der(48, der(6, data) der(160, der(4, of))) }
        BEGIN {
            for (i = 0; i < 64; i++) value[substr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", i + 1, 1)] = i
            for (i = 32; i < 127; i++) ascii = ascii sprintf("%c", i)
            pkcs = "\\052\\206\\110\\206\\367\\015\\001" # 1.2.840.113549.1
            data = pkcs "\\007\\001"
            cert_bag = pkcs "\\014\\012\\001\\003"
            x509 = pkcs "\\011\\026\\001"
            friendly_name = pkcs "\\011\\024"
            trusted_usage = "\\140\\206\\110\\001\\206\\371\\146\\255\\312\\173\\001\\001" # 2.16.840.1.113894.746875.1.1
            any_usage = "\\125\\035\\045\\000"
        }
        /-----BEGIN CERTIFICATE-----/ { pem = ""; p = 1; next }
        /-----END CERTIFICATE-----/ { if (p && !seen[pem]++) bags = bags bag(++n, decode(pem)); p = 0 }
        p { gsub(/[ \t\r]/, ""); pem = pem $0 }
        END { printf "%s", der(48, der(2, byte(3)) content(der(48, content(der(48, bags))))) }' "$1")"
}

# put_others COMMAND: what environments for containers name besides bundle.pem, which is
# in $WORK/new; COMMAND puts it there.
put_others() {
    cat "$WORK/new" >"$WORK/bundle"
    p12 "$WORK/bundle" >"$WORK/new"
    "$1" "$TRUST/truststore.p12" file
    for name in $SETTINGS; do
        settings "$name" >"$WORK/new"
        "$1" "$TRUST/$name" file
    done
}
