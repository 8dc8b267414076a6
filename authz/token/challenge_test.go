package token_test

import (
	"testing"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/token"
	"github.com/caddy-oci/oci-registry/oci"
)

func access(t *testing.T, action authz.Action, name string) authz.Access {
	t.Helper()
	if name == "" {
		return authz.Access{Action: action}
	}
	n, err := oci.ParseName(name)
	if err != nil {
		t.Fatal(err)
	}
	return authz.Access{Action: action, Repository: n}
}

func TestChallenge(t *testing.T) {
	t.Parallel()
	pull, push := access(t, authz.Pull, "a/b"), access(t, authz.Push, "c")
	for want, c := range map[string]token.Challenge{
		`Bearer realm="r",service="s"`:                                                        {Realm: "r", Service: "s"},
		`Bearer realm="r",service="s",scope="repository:a/b:pull"`:                            {Realm: "r", Service: "s", Want: []authz.Access{pull, access(t, authz.List, "a/b")}},
		`Bearer realm="r",service="s",scope="repository:c:pull,push"`:                         {Realm: "r", Service: "s", Want: []authz.Access{push, access(t, authz.Overwrite, "c")}},
		`Bearer realm="r",service="s",scope="repository:c:pull,push repository:a/b:pull"`:     {Realm: "r", Service: "s", Want: []authz.Access{push, pull}},
		`Bearer realm="r",service="s",scope="repository:a/b:delete"`:                          {Realm: "r", Service: "s", Want: []authz.Access{access(t, authz.Delete, "a/b")}},
		`Bearer realm="r",service="s",scope="registry:catalog:*"`:                             {Realm: "r", Service: "s", Want: []authz.Access{access(t, authz.List, "")}},
		`Bearer realm="r",service="s",error="invalid_token"`:                                  {Realm: "r", Service: "s", Error: token.InvalidToken},
		`Bearer realm="r",service="s",scope="repository:a/b:pull",error="insufficient_scope"`: {Realm: "r", Service: "s", Want: []authz.Access{pull}, Error: token.InsufficientScope},
		`Bearer realm="a\"b\\c",service="xy"`:                                                 {Realm: `a"b\c`, Service: "x\r\ny"},
	} {
		if got := c.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestServiceChallenge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, token.Options{})
	const begin = `Bearer realm="https://registry.example/v2/token",service="registry.example",scope="repository:alice:pull"`
	raw := w.token("alice:secret")
	want := []authz.Access{access(t, authz.Pull, "alice")}
	for name, c := range map[string]struct {
		header string
		err    error
		want   string
	}{
		"no token":       {"", oci.Unauthorized, begin},
		"a password":     {"Basic eDp5", oci.Unauthorized, begin},
		"a good token":   {"Bearer " + raw, oci.Errorf(oci.Denied, "x"), begin + `,error="insufficient_scope"`},
		"a bad token":    {"Bearer " + raw + "x", oci.Unauthorized, begin + `,error="invalid_token"`},
		"some other one": {"Bearer x", oci.Unauthorized, begin + `,error="invalid_token"`},
	} {
		r := w.request("GET", "/v2/alice/tags/list", "", "Authorization", c.header)
		if got := w.s.Challenge(r, want, c.err); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
