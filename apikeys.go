package ociregistry

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/apikey"
	"github.com/caddy-oci/oci-registry/handler"
	"github.com/caddy-oci/oci-registry/internal/clientaddr"
	"github.com/caddy-oci/oci-registry/internal/option"
)

// apiKeysPath is where users see to their keys. No repository is called that.
const apiKeysPath = "/v2/_apikeys" //nolint:gosec // it's a path

// APIKeys lets users make keys for machines, which are good as their password.
type APIKeys struct {
	// MaxLife is how long a key may be good, and how long one is that doesn't say.
	// Default: 365d.
	MaxLife caddy.Duration `json:"max_life,omitempty"`

	// MaxKeys is how many keys a user may have. Default: 50.
	MaxKeys int `json:"max_keys,omitempty"`
}

// apiKeys parses
//
//	api_keys {
//		max_life DURATION
//		max_keys NUMBER
//	}
func apiKeys(to **APIKeys) option.Parser {
	return func(d *caddyfile.Dispenser) error {
		k := new(APIKeys)
		*to = k
		return option.Block(d, option.Set{"max_life": option.Duration(&k.MaxLife), "max_keys": option.Number(&k.MaxKeys)})
	}
}

// ownersFreshFor is how long a key may outlive the account. A token that was got with it
// is looked at every two seconds, and a file twice a second: in five seconds all of them
// have ended. No provider here minds being asked that often for who is at work: an issuer
// that follows accounts isn't asked itself, and what's known of it is read every five
// seconds.
const ownersFreshFor = time.Second

// provisionKeys makes what knows API keys one of the ways to sign in. It asks nobody.
func (r *Registry) provisionKeys() error {
	a := r.auth.APIKeys
	if a == nil {
		return nil
	}
	keys, err := apikey.New(apikey.Options{
		State: r.state, Directory: r.auth.directory, MaxLife: time.Duration(a.MaxLife), MaxKeys: a.MaxKeys,
		OwnersFreshFor: ownersFreshFor, Observe: r.observeKey, Log: r.log,
	})
	if err != nil {
		return err
	}
	r.keys = keys
	r.auth.keys = []authn.Method{byKey{keys}, apikey.Bearer{Keys: keys}}
	return nil
}

// byKey is the Method of API keys as passwords. Other passwords are none to it. What is a
// key by its form is shown to nobody else, good or not.
type byKey struct{ keys *apikey.Keys }

// Identify implements authn.Method.
func (k byKey) Identify(r *http.Request) (authz.Identity, bool, error) {
	user, password, found, err := authn.Password(r)
	if err != nil { // which is for another method to say
		return authz.Identity{}, false, nil //nolint:nilerr // see above
	}
	if !found || !strings.HasPrefix(password, apikey.Prefix) {
		return authz.Identity{}, false, nil
	}
	who, err := k.keys.Authenticate(r.Context(), user, password)
	if err != nil && apikey.IsKey(password) {
		err = authn.Final(err)
	}
	return who, true, err
}

// serveKeys answers users who see to their keys.
func (h *Handler) serveKeys(w http.ResponseWriter, r *http.Request) {
	if !h.registry.lease.Enter() {
		h.refuse(w, r, errReplaced)
		return
	}
	defer h.exit()
	began := time.Now()
	h.registry.renew(w, r)
	apikey.API{
		Keys: h.registry.keys, Path: apiKeysPath, Identity: h.registry.identify, Admin: h.registry.isAdmin,
		Challenge: h.registry.auth.challenge,
		Observe: func(r *http.Request, s apikey.Served) {
			e := &handler.Event{
				Operation: s.Operation, Who: s.Who, Status: s.Status, Code: s.Code, Err: s.Err, Duration: time.Since(began),
			}
			h.registry.meters.observe(r, e)
			h.registry.audit.observeKeys(r, e, s)
			logEvent(r, e)
		},
	}.ServeHTTP(w, h.registry.withRequest(r))
}

// observeKeys is told of each request about API keys. What has become of a key is for
// observeKey.
func (a *audit) observeKeys(r *http.Request, e *handler.Event, s apikey.Served) {
	key := zap.Skip()
	if s.Key != "" {
		key = zap.String("key", string(s.Key))
	}
	a.observe(r, e, key)
	if a.log != nil && s.Others && s.Err == nil && r.Method == http.MethodGet {
		a.write(r, "api keys seen", e, key, zap.String("owner", cmp.Or(s.Owner, "everybody")))
	}
}

// isAdmin reports whether who may see to what belongs to others: an admin rule of the
// policy names them. Without a policy nobody may.
func (r *Registry) isAdmin(req *http.Request, who authz.Identity) bool {
	if r.policy == nil {
		return false
	}
	q := authz.Question{Who: who, Client: clientaddr.Of(req), Want: []authz.Access{{Action: authz.Delete}}}
	_, err := r.policy.Authorize(req.Context(), q)
	return err == nil
}

// isKeysPath reports whether a path is that of API keys.
func isKeysPath(path string) bool {
	return path == apiKeysPath || strings.HasPrefix(path, apiKeysPath+"/")
}

// observeKey is told what has happened to a key: at the request of somebody, of whom ctx
// says where they are, or by itself.
func (a *audit) observeKey(ctx context.Context, e apikey.Event) {
	if a.log == nil {
		return
	}
	fields := []zap.Field{
		zap.String("registry", a.registry), zap.String("user", e.By.ID), zap.String("provider", e.By.Provider),
		zap.String("key", string(e.Key.ID)), zap.String("owner", e.Key.Owner), zap.String("label", e.Key.Label),
	}
	if client := clientaddr.FromContext(ctx); client.IsValid() {
		fields = append(fields, zap.String("client", client.String()))
	}
	if by, ok := e.By.Claims[apikey.Claim].(string); ok {
		fields = append(fields, zap.String("by_key", by))
	}
	if id := requestID(ctx); id != "" {
		fields = append(fields, zap.String("uuid", id))
	}
	a.log.Info("api key "+string(e.Kind), fields...)
}
