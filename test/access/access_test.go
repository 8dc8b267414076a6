//go:build real

// Package access shows that the clients people use may do what a policy says, and
// nothing else, however they show who they are.
//
// Each client is on a machine of its own, goes to each site, and there does what it
// can: it shows a wrong secret, none, and the right one; it pulls, pushes, mounts and
// deletes, where that's allowed and where it isn't.
//
// The sites are those of three policies (everybody pulls, users alone do, nobody
// pushes), each with passwords, with tokens, with API keys that get a token, with the JWT
// of an issuer as the password, and with client certificates. At the size of CI each
// client visits a third of them, so that it meets every way and every policy.
//
// Not in it: what a client has no command for (podman, docker, containerd and helm
// delete nothing in a registry, helm mounts nothing, and podman only if it likes to;
// crane has no certificate of its own); API keys without a token.
package access

import (
	"flag"
	"maps"
	"net/http"
	"slices"
	"testing"

	"github.com/caddy-oci/oci-registry/test/tool"
)

// TestMain lets all clients be at it at once: most of the time they wait, after a wrong
// password or before they try again what was refused.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	m.Run()
}

func TestAccess(t *testing.T) {
	t.Parallel()
	names := slices.Sorted(maps.Keys(programs))
	sites := start(t, names)
	t.Run("by", func(t *testing.T) {
		for n, name := range names {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				programs[name].visit(t, name, tool.Sized(some(sites, n), sites))
			})
		}
	})
	wantRequests(t, sites)
}

// some returns a third of the sites, among them one of each way and of each policy.
func some(sites []site, n int) []site {
	var all []site
	for i, s := range sites {
		if (i/len(ways)+i%len(ways)+n)%len(policies) == 0 {
			all = append(all, s)
		}
	}
	return all
}

// visit visits sites, one after the other.
func (p program) visit(t *testing.T, name string, sites []site) {
	t.Helper()
	if name == "regctl" { // which tries again for many seconds
		p.visitAtOnce(t, name, sites)
		return
	}
	w := new(wire)
	c := p.prepare(t, w)
	for _, s := range sites {
		p.one(t, name, c, w, s)
	}
}

// visitAtOnce visits each site with another machine.
func (p program) visitAtOnce(t *testing.T, name string, sites []site) {
	t.Helper()
	for _, s := range sites {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			w := new(wire)
			p.one(t, name, p.prepare(t, w), w, s)
		})
	}
}

// one visits a site, unless the client can't.
func (p program) one(t *testing.T, name string, c client, w *wire, s site) {
	t.Helper()
	if w.dir = ""; s.cert {
		if !p.shows {
			return
		}
		c = w.byCertificate(t, c, s)
		if c.meet != nil {
			s = s.far()
			c.meet(s.Host)
		}
	}
	visit{t, c, s, name}.all()
}

// visit is that of a client to a site.
type visit struct {
	*testing.T
	client
	site

	user string
}

func (v visit) all() {
	v.Helper()
	v.wrong()
	v.anonymous()
	v.signedIn()
	v.expect("pull after signing out", v.open(), v.pull(v.in("base")))
}

// in is what is in a folder for everybody.
func (v visit) in(top string) string {
	if v.chart {
		return v.Ref(top+"/chart", "v1")
	}
	return v.Ref(top+"/app", "v1")
}

// own is a repository of the client's own.
func (v visit) own(top string) string { return v.Ref(top+"/"+v.user, "v1") }

// expect fails the test unless something went as the policy says.
func (v visit) expect(what string, well bool, err error) {
	v.Helper()
	if well != (err == nil) {
		v.Errorf("%s: %s: %v, want success: %t", v.site, what, err, well)
	}
}

// wrong shows a wrong secret, for another user: after so many, even the right one would be
// answered that there were too many.
func (v visit) wrong() {
	v.Helper()
	user, secret := another(v.user), wrong
	if v.key || v.jwt {
		secret = v.secret(v.T, user) + "x"
	}
	if err := v.login(v.Host, user, secret); err != nil {
		return
	}
	defer v.logout(v.Host)
	if v.asks() && !v.trusting {
		v.Errorf("%s: signed in with a wrong secret", v.site)
	}
	v.expect("push with a wrong secret", false, v.push(v.own("team")))
	v.expect("pull with a wrong secret", v.open() && v.unasked != sends && !v.cert, v.pull(v.in("base")))
}

// anonymous shows none.
func (v visit) anonymous() {
	v.Helper()
	v.expect("anonymous pull", v.open(), v.pull(v.in("base")))
	v.expect("anonymous push", false, v.push(v.own("team")))
	v.expect("anonymous pull of what's hidden", false, v.pull(v.in("hidden")))
}

// signedIn shows the right one.
func (v visit) signedIn() {
	v.Helper()
	if err := v.login(v.Host, v.user, v.secret(v.T, v.user)); err != nil {
		v.Errorf("%s: sign in: %v", v.site, err)
		return
	}
	defer v.logout(v.Host)
	v.expect("pull", true, v.pull(v.in("base")))
	if !v.asks() && v.unasked == never {
		v.expect("push without being asked for a password", false, v.push(v.own("team")))
		return
	}
	v.expect("pull of what's hidden", false, v.pull(v.in("hidden")))
	v.expect("push", v.writable(), v.push(v.own("team")))
	v.holds("team/"+v.user, v.writable())
	if v.mount != nil {
		v.mounting()
	}
	v.expect("push where one may only pull", false, v.push(v.own("base")))
	v.holds("base/"+v.user, false)
	v.expect("push where an API key may only pull", v.writable() && !v.key, v.push(v.own("wide")))
	v.holds("wide/"+v.user, v.writable() && !v.key)
	if v.remove != nil {
		v.expect("delete", v.writable(), v.remove(v.own("team/old")))
		v.holds("team/old/"+v.user, !v.writable())
		v.expect("delete where one may only pull", false, v.remove(v.in("base")))
	}
	v.Check("base/app", "v1", app)
}

// mounting copies images to other repositories. Where docker was refused to, it doesn't
// ask again, so this comes first.
func (v visit) mounting() {
	v.Helper()
	from := v.in("base")
	if v.writable() {
		from = v.own("team") // docker mounts only from where it has pushed
		v.mounts.Store(v.Host+"/team/mounted/"+v.user, nil)
	}
	v.expect("mount", v.writable(), v.mount(from, v.own("team/mounted")))
	v.holds("team/mounted/"+v.user, v.writable())
	v.expect("mount what's hidden", false, v.mount(v.in("hidden"), v.own("team/stolen")))
	v.expect("mount where one may only pull", false, v.mount(v.in("base"), v.own("base/mounted")))
	v.holds("base/mounted/"+v.user, false)
}

// holds fails the test unless a repository has an image, all of it, or none.
func (v visit) holds(repository string, want bool) {
	v.Helper()
	if _, err := v.Repository(repository).Verify(v.Context(), "v1"); want != (err == nil) {
		v.Errorf("%s: an image in %s: %v, want one: %t", v.site, repository, err, want)
	}
}

// wantRequests fails the test unless every site has mounted what it should have, which
// isn't to be seen in the image that is there then, and if anything broke.
func wantRequests(t *testing.T, sites []site) {
	t.Helper()
	mounted := make(map[string]bool)
	for _, r := range sites[0].Requests() {
		if r.Operation == "mount-blob" && r.Status == http.StatusCreated {
			mounted[r.Host+"/"+r.Repository] = true
		}
		if r.Status >= http.StatusInternalServerError {
			t.Errorf("%s %s%s: %d", r.Method, r.Host, r.URI, r.Status)
		}
	}
	for _, s := range sites {
		for name := range s.mounts.Range {
			if !mounted[name.(string)] {
				t.Errorf("%s: nothing was mounted in %s", s, name)
			}
		}
	}
}
