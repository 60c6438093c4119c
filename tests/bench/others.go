package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
)

// startNginx runs nginx as a reverse cache over TLS, one worker: it cannot
// intercept, so its clients come to it directly. It is nil where there is none.
func (b *bench) startNginx() (*target, error) {
	program, err := findProgram("nginx", "/usr/sbin/nginx")
	if program == "" || err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, "nginx")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	as := "" // an nginx without root ignores and warns of a user
	if os.Getuid() == 0 {
		as = "user root;"
	}
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; %s worker_processes 1; pid %[2]s/pid; error_log %[2]s/error.log;
events { worker_connections 2048; }
http {
  access_log off; sendfile on; tcp_nopush on;
  client_body_temp_path %[2]s/body; proxy_temp_path %[2]s/proxy; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;
  proxy_cache_path %[2]s/cache levels=1:2 keys_zone=c:64m max_size=20g inactive=1d use_temp_path=off;
  upstream origin { server %[3]s; keepalive 16; }
  server {
    listen %[4]s ssl http2; server_name %[5]s;
    ssl_certificate %[6]s; ssl_certificate_key %[7]s; ssl_protocols TLSv1.2 TLSv1.3;
    keepalive_requests 1000000000; keepalive_timeout 1h;
    location / {
      proxy_pass https://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host %[5]s;
      proxy_ssl_trusted_certificate %[8]s; proxy_ssl_verify on; proxy_ssl_name %[5]s; proxy_ssl_server_name on;
      proxy_cache c; proxy_cache_valid 200 1d; proxy_cache_lock on; proxy_cache_lock_timeout 1h; proxy_cache_lock_age 1h;
      proxy_max_temp_file_size 0;
    }
  }
}
`, as, dir, b.origin.addr, addr, benchHost, b.pki.cert, b.pki.key, b.pki.caCert)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	t := &target{name: "nginx", addr: addr, authority: benchHost + ":443", roots: b.pki.roots}
	return b.launch(t, program, "-c", config, "-p", dir)
}

// startSquid runs squid with ssl_bump and room for all objects in memory, which is
// squid at its best. It is nil where there is none, or none that can open TLS.
func (b *bench) startSquid() (*target, error) {
	program, err := findProgram("squid", "/usr/sbin/squid")
	if program == "" || err != nil {
		return nil, err
	}
	certgen, err := findProgram("security_file_certgen", "/usr/lib/squid/security_file_certgen", "/usr/lib64/squid/security_file_certgen")
	if certgen == "" || err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, "squid")
	if err := os.MkdirAll(filepath.Join(dir, "cache"), 0o755); err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(b.origin.addr)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "squid.conf")
	text := fmt.Sprintf(`http_port %s ssl-bump generate-host-certificates=on dynamic_cert_mem_cache_size=16MB tls-cert=%s
sslcrtd_program %s -s %[4]s/ssl_db -M 16MB
sslcrtd_children 2 startup=1 idle=1
acl tunnel dstdomain %[6]s
ssl_bump splice tunnel
ssl_bump bump all
tls_outgoing_options cafile=%[5]s
hosts_file %[4]s/hosts
cache_mem 2 GB
maximum_object_size_in_memory 256 MB
memory_cache_shared off
maximum_object_size 20 GB
cache_dir aufs %[4]s/cache 20000 16 256
refresh_pattern . 525600 100%% 525600
collapsed_forwarding on
http_access allow all
access_log none
cache_log %[4]s/cache.log
pid_filename %[4]s/pid
coredump_dir %[4]s
shutdown_lifetime 0 seconds
pinger_enable off
`, addr, b.pki.caBoth, certgen, dir, b.pki.caCert, tunnelHost)
	err = errors.Join(
		os.WriteFile(config, []byte(text), 0o644),
		os.WriteFile(filepath.Join(dir, "hosts"), []byte("127.0.0.1 "+benchHost+" "+tunnelHost+"\n"), 0o644))
	if err != nil {
		return nil, err
	}
	if out, err := exec.Command(certgen, "-c", "-s", filepath.Join(dir, "ssl_db"), "-M", "16MB").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make squid's certificate store: %w: %s", err, out)
	}
	if err := giveTo(dir, "proxy"); err != nil {
		return nil, err
	}
	if out, err := exec.Command(program, "-z", "-N", "-f", config).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make squid's folders: %w: %s", err, out)
	}
	// squid finds the origin by port: it has no way to be sent elsewhere.
	t := &target{name: "squid", addr: addr, authority: net.JoinHostPort(benchHost, port), proxy: true, roots: b.pki.roots}
	return b.launch(t, program, "-N", "-f", config)
}

// findProgram returns the path of a program, "" when there is none.
func findProgram(name string, known ...string) (string, error) {
	for _, candidate := range append([]string{name}, known...) {
		path, err := exec.LookPath(candidate)
		if err == nil {
			return filepath.Abs(path)
		}
		if !errors.Is(err, exec.ErrNotFound) && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}

// giveTo makes a folder the property of the user that a server of root changes to.
func giveTo(dir, name string) error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chown(path, uid, gid))
	})
}
