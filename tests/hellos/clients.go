package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// client is a program that fetches over TLS.
type client struct {
	name    string
	needs   string   // the program
	version []string // its arguments for its version
	env     []string
	// command writes what it needs into its folder and returns the command line.
	command func(dir, proxy string) ([]string, error)
}

const url = "https://" + target + "/simple/x"

// plain is a client without anything but arguments.
func plain(argv ...string) func(string, string) ([]string, error) {
	return func(string, string) ([]string, error) { return argv, nil }
}

// script is one that runs a file.
func script(name, text string, argv ...string) func(string, string) ([]string, error) {
	return func(dir, proxy string) ([]string, error) {
		path := filepath.Join(dir, name)
		return append(argv, path), os.WriteFile(path, []byte(text), 0o644)
	}
}

func clients() []client {
	v, version := []string{"--version"}, []string{"version"}
	return []client{
		{name: "curl", needs: "curl", version: v, command: plain("curl", "-sS", url)},
		{name: "curl-http1", needs: "curl", version: v, command: plain("curl", "-sS", "--http1.1", url)},
		{name: "wget", needs: "wget", version: v, command: plain("wget", "-t1", "-O-", url)},
		{name: "git", needs: "git", version: v, command: plain("git", "ls-remote", "https://"+target+"/x.git")},
		{name: "apt", needs: "apt-get", version: v, command: apt},
		{name: "gnutls-cli", needs: "gnutls-cli", version: v, command: func(_, proxy string) ([]string, error) {
			// It knows no proxy; socat or the like would be one more client to install.
			return []string{"sh", "-c", gnutlsThroughProxy, "sh", proxy}, nil
		}},
		{name: "openssl", needs: "openssl", version: version, command: func(_, proxy string) ([]string, error) {
			return []string{"openssl", "s_client", "-proxy", proxy, "-connect", target + ":443", "-servername", target, "-verify_return_error"}, nil
		}},
		{name: "python-urllib", needs: "python3", version: v, command: plain("python3", "-c", "import urllib.request; urllib.request.urlopen('"+url+"')")},
		{name: "python3.13-urllib", needs: "python3.13", version: v, env: []string{"PYENV_VERSION=3.13.0"}, command: plain("python3.13", "-c", "import urllib.request; urllib.request.urlopen('"+url+"')")},
		{name: "python3.8-urllib", needs: "python3.8", version: v, env: []string{"PYENV_VERSION=3.8.18"}, command: plain("python3.8", "-c", "import urllib.request; urllib.request.urlopen('"+url+"')")},
		{name: "python2.7-urllib2", needs: "python2.7", version: v, env: []string{"PYENV_VERSION=2.7.18"}, command: plain("python2.7", "-c", "import urllib2; urllib2.urlopen('"+url+"')")},
		{name: "python-requests", needs: "python3", version: v, command: plain("python3", "-c", "import requests; requests.get('"+url+"')")},
		{name: "python-httpx", needs: "python3", version: v, command: plain("python3", "-c", "import httpx; httpx.get('"+url+"')")},
		{name: "python-aiohttp", needs: "python3", version: v, command: plain("python3", "-c", aiohttp)},
		{name: "pip", needs: "pip", version: v, command: plain("pip", "download", "--no-deps", "--retries", "0", "--no-cache-dir", "--disable-pip-version-check", "--index-url", "https://"+target+"/simple/", "x")},
		{name: "uv", needs: "uv", version: v, command: plain("uv", "pip", "install", "--no-cache", "--target", "t", "--index-url", "https://"+target+"/simple/", "x")},
		{name: "node-https", needs: "node", version: v, command: script("https.mjs", nodeHTTPS, "node")},
		{name: "node-fetch", needs: "node", version: v, env: []string{"NODE_USE_ENV_PROXY=1"}, command: script("fetch.cjs", nodeFetch, "node")},
		{name: "npm", needs: "npm", version: v, command: plain("npm", "view", "x", "--registry", "https://"+target+"/", "--fetch-retries", "0")},
		{name: "pnpm", needs: "pnpm", version: v, command: plain("pnpm", "view", "x", "--registry", "https://"+target+"/")},
		{name: "yarn", needs: "yarn", version: v, command: plain("yarn", "info", "x", "--registry", "https://"+target+"/")},
		{name: "deno", needs: "deno", version: v, command: plain("deno", "eval", "await fetch('"+url+"')")},
		{name: "bun", needs: "bun", version: v, command: plain("bun", "-e", "await fetch('"+url+"')")},
		{name: "java-httpclient", needs: "java", version: []string{"-version"}, command: java("HttpClient", javaHTTPClient)},
		{name: "java-urlconnection", needs: "java", version: []string{"-version"}, command: java("URLConnection", javaURLConnection)},
		{name: "java25-httpclient", needs: java25, version: []string{"-version"}, command: javaOf(java25, "HttpClient", javaHTTPClient)},
		{name: "java25-urlconnection", needs: java25, version: []string{"-version"}, command: javaOf(java25, "URLConnection", javaURLConnection)},
		{name: "maven", needs: "mvn", version: v, command: maven},
		{name: "go", needs: "go", version: version, command: goGet},
		{name: "cargo", needs: "cargo", version: v, command: cargo},
		{name: "ruby", needs: "ruby", version: v, command: plain("ruby", "-ropen-uri", "-e", "URI.open('"+url+"').read")},
		{name: "gem", needs: "gem", version: v, command: plain("gem", "list", "--remote", "--clear-sources", "--source", "https://"+target+"/", "x")},
		{name: "perl-lwp", needs: "perl", version: v, command: plain("perl", "-MLWP::UserAgent", "-e", perlLWP)},
		{name: "php-curl", needs: "php", version: v, command: plain("php", "-r", "$c=curl_init('"+url+"'); curl_exec($c);")},
		{name: "php-streams", needs: "php", version: v, command: func(_, proxy string) ([]string, error) {
			return []string{"php", "-r", "file_get_contents('" + url + "', false, stream_context_create(['http'=>['proxy'=>'tcp://" + proxy + "','request_fulluri'=>true]]));"}, nil
		}},
		{name: "skopeo", needs: "skopeo", version: v, command: plain("skopeo", "--insecure-policy", "inspect", "docker://"+target+"/x:1")},
		{name: "chromium", needs: "chromium", version: v, command: func(dir, proxy string) ([]string, error) {
			return []string{
				"chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
				"--user-data-dir=" + filepath.Join(dir, "profile"), "--proxy-server=http://" + proxy, "--timeout=4000", "--dump-dom", url,
			}, nil
		}},
		{name: "firefox", needs: "firefox", version: v, command: firefox},
	}
}

const gnutlsThroughProxy = `exec python3 - "$1" <<'PY'
import os, socket, subprocess, sys
host, port = sys.argv[1].rsplit(":", 1)
l = socket.create_server(("127.0.0.1", 0))
p = subprocess.Popen(["gnutls-cli", "--port", str(l.getsockname()[1]), "--sni-hostname", "` + target + `", "--verify-hostname", "` + target + `", "127.0.0.1"], stdin=subprocess.DEVNULL)
a, _ = l.accept()
b = socket.create_connection((host, int(port)))
b.sendall(b"CONNECT ` + target + `:443 HTTP/1.1\r\nHost: ` + target + `:443\r\n\r\n")
while b"\r\n\r\n" not in b.recv(4096): pass
import threading
def copy(x, y):
    try:
        while d := x.recv(65536): y.sendall(d)
        y.shutdown(socket.SHUT_WR)
    except OSError: pass
threading.Thread(target=copy, args=(b, a), daemon=True).start()
copy(a, b)
p.wait()
PY`

const aiohttp = `import asyncio, aiohttp
async def f():
    async with aiohttp.ClientSession(trust_env=True) as s:
        await s.get("` + url + `")
asyncio.run(f())`

// nodeHTTPS does by hand what agents for proxies do.
const nodeHTTPS = `import http from "node:http"; import https from "node:https"; import tls from "node:tls";
const p = new URL(process.env.https_proxy);
http.request({ host: p.hostname, port: p.port, method: "CONNECT", path: "` + target + `:443" }).on("connect", (res, socket) => {
  https.get("` + url + `", { createConnection: (o) => tls.connect({ ...o, socket, servername: "` + target + `" }) })
    .on("error", (e) => { console.error(e.code); process.exit(1); });
}).end();
`

// nodeFetch uses the undici that is in the folder's reach, since Node before 22
// knows no proxy for its own.
const nodeFetch = `const { ProxyAgent, fetch } = require("undici");
fetch("` + url + `", { dispatcher: new ProxyAgent(process.env.https_proxy) }).catch((e) => { console.error(e.cause); process.exit(1); });
`

const perlLWP = `my $u = LWP::UserAgent->new(env_proxy => 1); print $u->get("` + url + `")->status_line;`

func apt(dir, proxy string) ([]string, error) {
	list := filepath.Join(dir, "sources.list")
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	return []string{
		"apt-get", "update", "-o", "Dir::Etc::SourceList=" + list, "-o", "Dir::Etc::SourceParts=/dev/null", "-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"),
		"-o", "Dir::Cache=" + filepath.Join(dir, "cache"), "-o", "APT::Sandbox::User=root", "-o", "Acquire::https::Proxy=http://" + proxy, "-o", "Acquire::Retries=0",
	}, os.WriteFile(list, []byte("deb [trusted=yes] https://"+target+"/debian stable main\n"), 0o644)
}

func java(class, text string) func(string, string) ([]string, error) {
	return javaOf("java", class, text)
}

// java25 is a second one where Temurin's packages put it.
const java25 = "/usr/lib/jvm/temurin-25-jdk-amd64/bin/java"

func javaOf(program, class, text string) func(string, string) ([]string, error) {
	return func(dir, proxy string) ([]string, error) {
		host, port, err := net.SplitHostPort(proxy)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, class+".java")
		return []string{program, "-Dhttps.proxyHost=" + host, "-Dhttps.proxyPort=" + port, path}, os.WriteFile(path, []byte(text), 0o644)
	}
}

const javaHTTPClient = `import java.net.*; import java.net.http.*;
public class HttpClient { public static void main(String[] a) throws Exception {
  java.net.http.HttpClient.newBuilder().proxy(ProxySelector.getDefault()).build()
    .send(HttpRequest.newBuilder(URI.create("` + url + `")).build(), HttpResponse.BodyHandlers.ofString());
} }
`

const javaURLConnection = `import java.net.*;
public class URLConnection { public static void main(String[] a) throws Exception {
  new URL("` + url + `").openStream().readAllBytes();
} }
`

func maven(dir, proxy string) ([]string, error) {
	host, port, err := net.SplitHostPort(proxy)
	if err != nil {
		return nil, err
	}
	pom := `<project><modelVersion>4.0.0</modelVersion><groupId>g</groupId><artifactId>a</artifactId><version>1</version><packaging>pom</packaging>
<repositories><repository><id>central</id><url>https://` + target + `/maven2</url></repository></repositories>
<pluginRepositories><pluginRepository><id>central</id><url>https://` + target + `/maven2</url></pluginRepository></pluginRepositories>
<parent><groupId>p</groupId><artifactId>p</artifactId><version>1</version><relativePath/></parent></project>`
	return []string{
		"mvn", "--batch-mode", "-Dhttps.proxyHost=" + host, "-Dhttps.proxyPort=" + port, "-Duser.home=" + dir, "-Dmaven.repo.local=" + filepath.Join(dir, "m2"), "validate",
	}, os.WriteFile(filepath.Join(dir, "pom.xml"), []byte(pom), 0o644)
}

func goGet(dir, _ string) ([]string, error) {
	text := `package main
import ("fmt"; "net/http")
func main() { _, err := http.Get("` + url + `"); fmt.Println(err) }
`
	path := filepath.Join(dir, "main.go")
	return []string{"go", "run", path}, os.WriteFile(path, []byte(text), 0o644)
}

func cargo(dir, _ string) ([]string, error) {
	if err := os.MkdirAll(filepath.Join(dir, "src"), 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "src", "lib.rs"), nil, 0o644); err != nil {
		return nil, err
	}
	manifest := "[package]\nname = \"a\"\nversion = \"0.1.0\"\n[dependencies]\nx = { version = \"1\", registry = \"r\" }\n"
	if err := os.WriteFile(filepath.Join(dir, "Cargo.toml"), []byte(manifest), 0o644); err != nil {
		return nil, err
	}
	return []string{"cargo", "generate-lockfile", "--config", "registries.r.index=\"sparse+https://" + target + "/\"", "--config", "net.retry=0"}, nil
}

func firefox(dir, proxy string) ([]string, error) {
	host, port, err := net.SplitHostPort(proxy)
	if err != nil {
		return nil, err
	}
	profile := filepath.Join(dir, "profile")
	prefs := fmt.Sprintf("user_pref(%q, 1);\nuser_pref(%q, %q);\nuser_pref(%q, %s);\n", "network.proxy.type", "network.proxy.ssl", host, "network.proxy.ssl_port", port)
	if err := os.MkdirAll(profile, 0o755); err != nil {
		return nil, err
	}
	return []string{"timeout", "20", "firefox", "--headless", "--profile", profile, "--screenshot", filepath.Join(dir, "x.png"), url},
		os.WriteFile(filepath.Join(profile, "user.js"), []byte(prefs), 0o644)
}
