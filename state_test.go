package ociregistry

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// stateful is a registry in a folder whose keys are somewhere, with Caddy's storage in
// a folder, too.
type stateful struct {
	*web
	caddys, root string
}

func newStateful(t *testing.T) *stateful {
	t.Helper()
	return &stateful{newWeb(t), t.TempDir(), t.TempDir()}
}

func (s *stateful) global() string { return "storage file_system " + s.caddys }

func (s *stateful) site(t *testing.T, options string) string {
	t.Helper()
	return "oci_registry {\nroot " + s.root + "\n" + options + "\nauth {\n" + htpasswdAlice(t) + "\nchallenge bearer\n}\n}"
}

// load runs it in place of what ran before.
func (s *stateful) load(t *testing.T, options string) error {
	t.Helper()
	return tryLoad(quiet(t, s.config(t, s.global(), s.site(t, options))))
}

// move moves its keys by the command.
func (s *stateful) move(t *testing.T, to string) (out string, err error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	text := fmt.Sprintf("{\nadmin off\n%s\n}\nhttp://%s {\noci_registry {\nroot %s\n}\n}\n", s.global(), s.addr, s.root)
	if err := os.WriteFile(file, caddyfile.Format([]byte(text)), 0o600); err != nil {
		t.Fatal(err)
	}
	return runCommand(t, "state", "move", "--config", file, "--to", to)
}

// A change of state is refused, by a start and by a reload, until the keys are moved.
func TestStateInTheOtherHome(t *testing.T) {
	s := newStateful(t)
	if err := s.load(t, "state caddy"); err != nil {
		t.Fatal(err)
	}
	token := s.token(t, "", "Authorization", alice)
	err := s.load(t, "state store")
	want := "registry inline, state store: the registry's keys are elsewhere: stop all replicas and move them with " +
		"'caddy oci-registry state move --registry inline --to store', or write 'state caddy'"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("reload: %v", err)
	}
	s.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", token) // what was there before goes on
	stop(t)
	running := openRoot(t, s.root) // as another process has it
	if _, err := s.move(t, "store"); err == nil || !strings.Contains(err.Error(), "If registry inline is running, stop it first") {
		t.Fatalf("moved from under a running registry: %v", err)
	}
	if err := running.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := s.move(t, "store"); err != nil || !strings.Contains(out, "token/keys\n") {
		t.Fatalf("%s%v", out, err)
	}
	if err := s.load(t, "state caddy"); err == nil || !strings.Contains(err.Error(), "were moved away") {
		t.Fatalf("started without its keys: %v", err)
	}
	if err := s.load(t, "state store"); err != nil {
		t.Fatal(err)
	}
	s.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", token)
	stop(t)
	if out, err := s.move(t, "caddy"); err != nil {
		t.Fatalf("%s%v", out, err)
	}
	if err := s.load(t, ""); err != nil {
		t.Fatal(err)
	}
	s.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", token)
}

// Keys that somebody has moved into a storage of Caddy's that isn't the service's aren't
// made anew.
func TestStateMovedByAnotherUser(t *testing.T) {
	s := newStateful(t)
	if err := s.load(t, "state store"); err != nil {
		t.Fatal(err)
	}
	token := s.token(t, "", "Authorization", alice)
	stop(t)
	root := &stateful{s.web, t.TempDir(), s.root}
	if out, err := root.move(t, "caddy"); err != nil {
		t.Fatalf("%s%v", out, err)
	}
	const away = "the registry's keys were moved to or from a third place: 'state move' was run by another user"
	for _, to := range []string{"caddy", "store"} {
		if _, err := s.move(t, to); err == nil || !strings.Contains(err.Error(), away) {
			t.Errorf("moved to %s: %v", to, err)
		}
	}
	if err := s.load(t, "state caddy"); err == nil || !strings.Contains(err.Error(), away) {
		t.Fatalf("started without its keys: %v", err)
	}
	if out, err := root.move(t, "store"); err != nil {
		t.Fatalf("%s%v", out, err)
	}
	if out, err := s.move(t, "caddy"); err != nil {
		t.Fatalf("%s%v", out, err)
	}
	if err := s.load(t, "state caddy"); err != nil {
		t.Fatal(err)
	}
	s.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", token)
}

// Who needs no keys asks nobody for them.
func TestStateThatNobodyNeeds(t *testing.T) {
	s := newStateful(t)
	if err := s.load(t, "state caddy"); err != nil {
		t.Fatal(err)
	}
	s.token(t, "", "Authorization", alice)
	s.run(t, s.global(), "oci_registry {\nroot "+s.root+"\nstate store\n}")
}

// A registry in memory makes new keys at each start, so none are missed.
func TestStateOfARegistryInMemory(t *testing.T) {
	s := newStateful(t)
	if err := s.load(t, "state caddy"); err != nil {
		t.Fatal(err)
	}
	token := s.token(t, "", "Authorization", alice)
	inMemory := strings.ReplaceAll(s.site(t, ""), "root "+s.root, "storage memory "+t.Name())
	s.run(t, s.global(), inMemory)
	s.want(t, http.StatusUnauthorized, http.MethodGet, "/v2/", "", "Authorization", token)
	s.run(t, s.global(), strings.ReplaceAll(inMemory, "storage memory", "state caddy\nstorage memory"))
	s.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", token)
}

func TestStateMoveRefuses(t *testing.T) {
	s := newStateful(t)
	if _, err := s.move(t, "elsewhere"); err == nil || err.Error() != "--to elsewhere: want caddy or store" {
		t.Errorf("error %v", err)
	}
	for i, dir := range []string{filepath.Join(s.root, "_state"), filepath.Join(s.caddys, "oci_registry/inline/state")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		data := fmt.Appendf(nil, "ABCDEFGHIJKLMNOPQRSTUVWXYZ\n%d", i)
		if err := os.WriteFile(filepath.Join(dir, "token.keys"), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.move(t, "caddy"); err == nil || !strings.Contains(err.Error(), "both have a value, and not the same: token/keys") {
		t.Errorf("error %v", err)
	}
	if data, err := fs.ReadFile(os.DirFS(s.root), "_state/token.keys"); err != nil || !bytes.HasSuffix(data, []byte("0")) {
		t.Errorf("it was changed: %q, %v", data, err)
	}
}

// besides is another site with a registry, which stands before or after.
func (s *stateful) besides(options string) string {
	return "}\nhttp://other.localhost:" + s.addr[strings.LastIndex(s.addr, ":")+1:] + " {\noci_registry {\nstorage memory other\n" + options + "\n}\n"
}

// Keys that are found by a name go to nobody else when the order of sites changes.
func TestStateOfSeveralWithoutNames(t *testing.T) {
	s := newStateful(t)
	const want = "registries inline, inline-2 have no names but by their order in the file, and the keys of registry inline are in Caddy's storage"
	for options, refused := range map[string]bool{
		"": true, "state caddy": true, "health /healthy": true,
		"state store": false, "name main": false,
	} {
		err := validate(t, s.config(t, s.global(), s.site(t, options)+s.besides("")))
		if refused && (err == nil || !strings.Contains(err.Error(), want)) || !refused && err != nil {
			t.Errorf("%q: %v", options, err)
		}
	}
	if err := validate(t, s.config(t, s.global(), "oci_registry {\nroot "+s.root+"\n}"+s.besides(""))); err != nil {
		t.Errorf("there are no keys: %v", err)
	}
	for options, other := range map[string]string{"": "name second", "name inline": "name inline-2"} {
		if err := validate(t, s.config(t, s.global(), s.site(t, options)+s.besides(other))); err != nil {
			t.Errorf("there's no order: %v", err)
		}
	}
}

// The one that was there first keeps its keys.
func TestStateOfTheFirstOfSeveral(t *testing.T) {
	s := newStateful(t)
	if err := s.load(t, ""); err != nil {
		t.Fatal(err)
	}
	token := s.token(t, "", "Authorization", alice)
	s.run(t, s.global()+"\n"+s.besides("name new"), s.site(t, "name inline"))
	s.want(t, http.StatusOK, http.MethodGet, "/v2/", "", "Authorization", token)
}
