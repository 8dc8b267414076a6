//go:build real

package access

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-oci/oci-registry/test/image"
	"github.com/caddy-oci/oci-registry/test/tool"
)

// client is a program on a machine of its own. What it can't do is nil.
type client struct {
	login              func(host, user, secret string) error
	logout             func(host string)
	pull, push, remove func(ref string) error
	mount              func(from, to string) error // copies an image to another repository

	// meet is for a client that shows no certificate to this machine, but to hosts that
	// it was told to trust.
	meet func(host string)

	trusting bool // login only writes the secret down
	chart    bool // it knows charts, and no images
	unasked  unasked
}

// unasked is when a client sends a password to a registry that lets it in without.
type unasked int

const (
	never   unasked = iota
	refused         // with what was refused
	sends           // always
)

// program prepares a machine that reaches registries over a wire.
type program struct {
	prepare func(*testing.T, *wire) client
	shows   bool // a certificate
}

// programs are those that are tried.
var programs = map[string]program{
	"crane": {crane, false}, "skopeo": {skopeo, true}, "oras": {oras, true}, "regctl": {regctl, true},
	"podman": {podman, true}, "docker": {docker, true}, "helm": {helm, true}, "containerd": {containerd, true},
}

// does runs a program for what it does.
func does(c *tool.Tool, args ...string) error {
	_, err := c.Try(args...)
	return err
}

// on is a program's run for an argument that comes last.
func on(c *tool.Tool, args ...string) func(string) error {
	return func(last string) error { return does(c, append(slices.Clip(args), last)...) }
}

// reads runs a program with something to read.
func reads(c *tool.Tool, stdin string, args ...string) error {
	c.Stdin = stdin
	defer func() { c.Stdin = "" }()
	return does(c, args...)
}

func signIn(c *tool.Tool, args ...string) func(host, user, secret string) error {
	return func(host, user, secret string) error {
		return reads(c, secret, append(slices.Clip(args), "--username", user, "--password-stdin", host)...)
	}
}

func crane(t *testing.T, _ *wire) client {
	c := tool.Find(t, "crane", "--insecure")
	layout := string(own.WriteLayout(t, "v1"))
	pulled := filepath.Join(c.Dir, "pulled")
	return client{
		login:    signIn(c, "auth", "login"),
		logout:   func(host string) { c.Run("auth", "logout", host) },
		pull:     func(ref string) error { return does(c, "pull", ref, pulled) },
		push:     on(c, "push", layout),
		mount:    func(from, to string) error { return does(c, "copy", from, to) },
		remove:   on(c, "delete"),
		trusting: true,
		unasked:  sends,
	}
}

func skopeo(t *testing.T, w *wire) client {
	c := tool.Find(t, "skopeo")
	layout := "oci:" + string(own.WriteLayout(t, "v1")) + ":v1"
	from := func(ref string) []string { return append(w.verify("src-"), "docker://"+ref) }
	to := func(ref string) []string { return append(w.verify("dest-"), "docker://"+ref) }
	return client{
		login:  signIn(c, "login", "--tls-verify=false"),
		logout: func(host string) { c.Run("logout", host) },
		pull: func(ref string) error {
			return does(c, slices.Concat([]string{"copy"}, from(ref), []string{"dir:" + t.TempDir()})...)
		},
		push: func(ref string) error { return does(c, slices.Concat([]string{"copy", layout}, to(ref))...) },
		mount: func(old, ref string) error {
			return does(c, slices.Concat([]string{"copy"}, w.verify("src-"), w.verify("dest-"), []string{"docker://" + old, "docker://" + ref})...)
		},
		remove: func(ref string) error {
			return does(c, slices.Concat([]string{"delete"}, w.verify(""), []string{"docker://" + ref})...)
		},
	}
}

func oras(t *testing.T, w *wire) client {
	c := tool.Find(t, "oras")
	layout := string(own.WriteLayout(t, "v1")) + ":v1"
	return client{
		login:  signIn(c, "login", "--plain-http"),
		logout: func(host string) { c.Run("logout", host) },
		pull: func(ref string) error {
			return does(c, slices.Concat([]string{"cp", "--to-oci-layout"}, w.files("from-"), []string{ref, t.TempDir() + ":v1"})...)
		},
		push: func(ref string) error {
			return does(c, slices.Concat([]string{"cp", "--from-oci-layout"}, w.files("to-"), []string{layout, ref})...)
		},
		mount: func(from, to string) error {
			return does(c, slices.Concat([]string{"cp"}, w.files("from-"), w.files("to-"), []string{from, to})...)
		},
		remove: func(ref string) error {
			return does(c, slices.Concat([]string{"manifest", "delete", "--force"}, w.files(""), []string{ref})...)
		},
		unasked: refused,
	}
}

func regctl(t *testing.T, w *wire) client {
	c := tool.Find(t, "regctl")
	layout := "ocidir://" + string(own.WriteLayout(t, "v1")) + ":v1"
	known := func(host string) {
		c.Run("registry", "set", "--skip-check", "--tls", w.tls(), "--cacert", w.read("ca.crt"),
			"--client-cert", w.read("client.cert"), "--client-key", w.read("client.key"), host)
	}
	about := func(do func(string) error) func(string) error {
		return func(ref string) error {
			host, _, _ := strings.Cut(ref, "/")
			known(host)
			return do(ref)
		}
	}
	return client{
		login: func(host, user, secret string) error {
			known(host)
			return reads(c, secret, "registry", "login", "--user", user, "--pass-stdin", host)
		},
		logout: func(host string) { c.Run("registry", "logout", host) },
		pull:   about(func(ref string) error { return does(c, "image", "copy", ref, "ocidir://"+t.TempDir()+":v1") }),
		push: about(func(ref string) error {
			repository, _, _ := strings.Cut(ref, ":v1")
			if err := reads(c, "first", "blob", "put", repository); err != nil {
				return err // after so many seconds, and an image takes many times as long to be refused
			}
			return does(c, "image", "copy", layout, ref)
		}),
		mount:   func(from, to string) error { return does(c, "image", "copy", from, to) },
		remove:  about(on(c, "tag", "delete")),
		unasked: refused,
	}
}

// local is how podman and docker call an image of their own.
const local = "localhost/own:v1"

func podman(t *testing.T, w *wire) client {
	c := tool.Podman(t)
	c.Stdin = string(image.RandomLayer(7, 9000))
	c.Run("import", "-", local)
	c.Stdin = ""
	return client{
		login:  signIn(c, "login", "--tls-verify=false"),
		logout: func(host string) { c.Run("logout", host) },
		pull: func(ref string) error {
			return does(c, slices.Concat([]string{"pull", "--quiet"}, w.verify(""), []string{ref})...)
		},
		push: func(ref string) error {
			return does(c, slices.Concat([]string{"push", "--quiet"}, w.verify(""), []string{local, ref})...)
		},
	}
}

func docker(t *testing.T, w *wire) client {
	proxy := httptest.NewServer(tool.Tunnel(func(address string) string { return strings.Replace(address, afar, near, 1) }))
	t.Cleanup(proxy.Close)
	c := tool.Docker(t, "HTTPS_PROXY="+proxy.URL)
	c.Stdin = string(image.RandomLayer(8, 9000))
	c.Run("import", "-", local)
	c.Stdin = ""
	push := func(from, to string) error {
		c.Run("tag", from, to)
		return does(c, "push", to)
	}
	return client{
		login:  signIn(c, "login"),
		logout: func(host string) { c.Run("logout", host) },
		pull:   on(c, "pull"),
		push:   func(ref string) error { return push(local, ref) },
		mount: func(from, to string) error {
			if err := does(c, "pull", from); err != nil {
				return err
			}
			return push(from, to)
		},
		meet: func(host string) {
			trusted := filepath.Join(c.Dir, "etc/certs.d")
			if err := os.MkdirAll(trusted, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(w.dir, filepath.Join(trusted, host)); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// helm calls a repository what it calls the chart.
func helm(t *testing.T, w *wire) client {
	c := tool.Find(t, "helm")
	archive := filepath.Join(c.Dir, "helm-v1.tgz")
	if err := os.WriteFile(archive, chartArchive("helm"), 0o600); err != nil {
		t.Fatal(err)
	}
	return client{
		login:  signIn(c, "registry", "login", "--plain-http"),
		logout: func(host string) { c.Run("registry", "logout", host) },
		pull: func(ref string) error {
			return does(c, slices.Concat([]string{"pull"}, w.files(""), []string{"--destination", t.TempDir(), "oci://" + ref})...)
		},
		push: func(ref string) error {
			return does(c, slices.Concat([]string{"push"}, w.files(""), []string{archive, "oci://" + strings.TrimSuffix(ref, "/helm:v1")})...)
		},
		chart:   true,
		unasked: refused,
	}
}

// containerd is told the secret with each command.
func containerd(t *testing.T, w *wire) client {
	c := tool.Containerd(t)
	tar := tool.Find(t, "tar")
	archive := filepath.Join(c.Dir, "own.tar")
	tar.Run("--create", "--file", archive, "--directory", string(own.WriteLayout(t, "v1")), ".")
	c.Run("images", "import", "--no-unpack", "--base-name", "own", archive)
	var user []string
	images := func(command string, args ...string) error {
		return does(c, slices.Concat([]string{"images", command}, w.hosts(t), user, args)...)
	}
	return client{
		login: func(_, name, secret string) error {
			user = []string{"--user", name + ":" + secret}
			return nil
		},
		logout: func(string) { user = nil },
		pull:   func(ref string) error { return images("pull", ref) },
		push:   func(ref string) error { return images("push", ref, "own:v1") },
		mount: func(from, to string) error {
			if err := images("pull", from); err != nil {
				return err
			}
			return images("push", to, from)
		},
		trusting: true,
		unasked:  refused,
	}
}

// own is the client's image.
var own = image.Random(2, 2, 9000)
