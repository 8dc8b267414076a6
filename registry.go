package ociregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-oci/oci-registry/authz"
	"github.com/caddy-oci/oci-registry/authz/authn"
	"github.com/caddy-oci/oci-registry/authz/authn/apikey"
	"github.com/caddy-oci/oci-registry/authz/keep"
	"github.com/caddy-oci/oci-registry/authz/token"
	"github.com/caddy-oci/oci-registry/internal/option"
	"github.com/caddy-oci/oci-registry/internal/origin"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/readonly"
)

// Registry describes one registry: where its content is, and what may be done
// with it.
type Registry struct {
	// Storage is where the content is kept: a module of the namespace
	// oci_registry.storage. Default: filesystem, with its defaults.
	StorageRaw json.RawMessage `json:"storage,omitempty" caddy:"namespace=oci_registry.storage inline_key=module"`

	// Paths keep the repositories under a prefix of their names elsewhere: in whole
	// components, so that team stands for team and team/app, and not for teams/app. Of
	// several the longest counts. Default: none.
	Paths map[string]*Path `json:"paths,omitempty"`

	// State is where the registry keeps its own small state, such as the keys that
	// sign tokens: caddy, in Caddy's storage, or store, beside the content. Default:
	// caddy for a folder, store otherwise.
	State StateHome `json:"state,omitempty"`

	// ReadOnly refuses everything that would change content. Default: false.
	ReadOnly bool `json:"read_only,omitempty"`

	// Anonymous is what callers may do who haven't signed in: none, pull, or all,
	// which is everything, deleting included. Who has signed in may do everything.
	// Default: pull, or what a policy says.
	Anonymous authz.Anonymous `json:"anonymous,omitempty"`

	// Auth says how callers sign in. Default: not here; who was authenticated by an
	// earlier handler counts.
	Auth *Auth `json:"auth,omitempty"`

	// Policy says who may do what, in place of Anonymous. Default: none, as
	// Anonymous says.
	Policy *Policy `json:"policy,omitempty"`

	// Groups are groups of users for the policy, beside those that the providers
	// know: the names of their members by the name of the group. Default: none.
	Groups map[string][]string `json:"groups,omitempty"`

	// RateLimit is how often clients may ask for anything. Default: no limit.
	RateLimit *RateLimit `json:"rate_limit,omitempty"`

	// SparseManifests says what a manifest that's pushed may name without its
	// being there: none, indexes (the children of an image index), or all.
	// Default: indexes.
	SparseManifests storage.Sparse `json:"sparse_manifests,omitempty"`

	// MaxManifestSize is the largest manifest accepted, in bytes. Default: 4194304 (4 MiB).
	MaxManifestSize int64 `json:"max_manifest_size,omitempty"`

	// MaxBlobSize is the largest blob accepted, in bytes. Default: 0, no limit.
	MaxBlobSize int64 `json:"max_blob_size,omitempty"`

	// ExternalURL is how clients reach the registry: https://host[:port].
	// Placeholders like {env.NAME} are replaced. Default: what X-Forwarded-Proto and X-Forwarded-Host of a trusted proxy
	// say, else what the request says.
	ExternalURL string `json:"external_url,omitempty"`

	// Health is the path below which livez, readyz and startupz answer 200 or
	// 503. Placeholders are replaced. Default: empty, they aren't served.
	Health string `json:"health,omitempty"`

	// GC says when garbage is collected, and what is garbage. Default: once a day,
	// what nothing has needed for as long, and untagged manifests after 14 days.
	GC *GarbageCollection `json:"gc,omitempty"`

	// Scrub says when all that's kept is compared with its digests, and how fast.
	// Default: once a week on disk, at 20 MiB a second; in a bucket only if it's
	// asked for, since reading costs money there.
	Scrub *Scrubbing `json:"scrub,omitempty"`

	name        string
	log         *slog.Logger
	externalURL string // ExternalURL, without placeholders
	health      string // Health, likewise
	description []byte // what a handler said, as JSON; nil if the app declares it
	unnamed     bool   // a handler said no name
	numbered    bool   // its name may be by its place in the file
	homes       []home // where the content is; the first has what no path has
	scrubDisks  bool   // nobody has said what is scrubbed: what is on a disk
	lease       *leases
	auth        *Auth         // Auth, or one that believes earlier handlers
	policy      *authz.Policy // nil without one
	authorizer  authz.Authorizer
	stateHome   StateHome
	stateIn     map[StateHome]keep.Store // either home
	state       *keep.Settled            // of keys
	keys        *apikey.Keys             // nil if there are none
	tokens      *token.Service           // nil if none are given

	upkeep *upkeep // nil unless started

	looksAtRequests bool // some rule of the policy has a condition

	meters        *meters
	releaseMeters func()
	audit         audit
	releaseLogins func()
	rates         *rates // nil without a limit
	releaseRates  func()
}

// provision checks the configuration and loads the guests. It does no I/O
// beyond looking at the path of a root.
func (r *Registry) provision(ctx caddy.Context, name string) error {
	r.name = name
	r.log = ctx.Slogger().With(slog.String("registry", name))
	var err error
	if r.externalURL, err = option.Resolve("external_url", r.ExternalURL); err != nil {
		return err
	}
	if r.health, err = option.Resolve("health", r.Health); err != nil {
		return err
	}
	if err := r.validate(); err != nil {
		return err
	}
	if err := r.provisionAuth(ctx); err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	if err := r.provisionPolicy(ctx); err != nil {
		return err
	}
	if err := r.checkOpen(); err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	if err := r.loadHomes(ctx); err != nil {
		return err
	}
	if err := r.provisionState(ctx); err != nil {
		return err
	}
	return errors.Join(r.provisionSignIn(), r.provisionKeys(), r.provisionTokens(), r.provisionGC(), r.provisionScrub())
}

func (r *Registry) provisionAuth(ctx caddy.Context) error {
	r.auth = r.Auth
	switch {
	case r.Auth == nil:
		r.auth = new(Auth)
	case len(r.Auth.ProvidersRaw) == 0 && r.Auth.Upstream == nil:
		return errors.New("nobody can sign in: write 'provider MODULE …' or 'upstream { user PLACEHOLDER }' in its block")
	}
	if err := r.auth.provision(ctx); err != nil {
		return err
	}
	if r.Auth != nil && r.auth.asksInVain() {
		r.log.Warn("auth: nobody can sign in with a password here, so the registry asks nobody, whatever realm and challenge say: leave them out, or add 'provider MODULE …' or api_keys")
	}
	return nil
}

func (r *Registry) provisionGC() error {
	if r.GC == nil {
		r.GC = new(GarbageCollection)
	} else if r.isIn("memory") && !r.GC.Off {
		return errors.New("gc: storage memory collects no garbage, and forgets all of it with the process: leave gc out")
	}
	if err := r.GC.provision(); err != nil {
		return fmt.Errorf("gc: %w", err)
	}
	return nil
}

// isIn reports whether all content is in stores of one kind.
func (r *Registry) isIn(module string) bool {
	return !slices.ContainsFunc(r.homes, func(h home) bool { return h.module != module })
}

func (r *Registry) provisionScrub() error {
	if r.Scrub == nil {
		r.Scrub, r.scrubDisks = new(Scrubbing), true
	} else if r.isIn("memory") && !r.Scrub.Off {
		return errors.New("scrub: storage memory keeps nothing that could rot: leave scrub out")
	}
	if err := r.Scrub.provision(); err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	return nil
}

func (r *Registry) validate() error {
	switch r.SparseManifests {
	case "", storage.SparseNone, storage.SparseIndexes, storage.SparseAll:
	default:
		return fmt.Errorf("sparse_manifests %q: want none, indexes or all", r.SparseManifests)
	}
	if r.MaxManifestSize < 0 {
		return fmt.Errorf("max_manifest_size %d: want a number of bytes; 0 is the default", r.MaxManifestSize)
	}
	if r.MaxBlobSize < 0 {
		return fmt.Errorf("max_blob_size %d: want a number of bytes; 0 is no limit", r.MaxBlobSize)
	}
	if err := r.checkLimits(); err != nil {
		return fmt.Errorf("limits: %w", err)
	}
	return errors.Join(checkExternalURL(r.externalURL), checkHealth(r.health))
}

func checkExternalURL(s string) error {
	if s == "" {
		return nil
	}
	if err := origin.Check(s); err != nil {
		return fmt.Errorf("external_url %q: %w", s, err)
	}
	return nil
}

func checkHealth(p string) error {
	switch {
	case p == "":
		return nil
	case p[0] != '/' || p == "/" || path.Clean(p) != p:
		return fmt.Errorf("health %q: want a path like /health", p)
	case isAPI(p):
		return fmt.Errorf("health %q: below /v2 is the registry's API; want a path like /health", p)
	}
	return nil
}

// acquire takes this configuration's share in the stores and in what is counted of
// the registry. The caller releases it.
func (r *Registry) acquire() {
	r.meters, r.releaseMeters = acquireMeters(r.name)
	r.lease = acquireLeases(r)
	r.audit.tokens = r.tokens
	r.audit.logins, r.releaseLogins = acquireLogins(r.name, r.auth.Limits)
	r.rates, r.releaseRates = acquireRates(r.name, r.RateLimit)
	r.auth.limited = r.audit.logins.Around(append(authn.Chain(r.auth.keys), r.auth.chain...))
}

// release gives back what acquire took. Further calls do nothing.
func (r *Registry) release() error {
	r.upkeep.stop()
	r.releaseMeters()
	r.releaseLogins()
	r.releaseRates()
	return r.lease.Release()
}

// start opens the stores, makes sure that keys are where they're looked for, and makes
// this configuration the one that tunes it.
func (r *Registry) start() error {
	if _, err := r.open(context.Background()); err != nil {
		return err
	}
	if err := r.checkState(context.Background()); err != nil {
		return err
	}
	r.lease.Start()
	r.upkeep = startUpkeep(r.log, r.chores())
	return nil
}

// open returns the open store, which may be one over several. Whoever calls it holds the lease.
func (r *Registry) open(ctx context.Context) (storage.Store, error) {
	store, err := r.lease.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open storage of registry %s: %w", r.name, err)
	}
	return store, nil
}

// guard returns the store as this configuration lets it be used.
func (r *Registry) guard(store storage.Store) storage.Store {
	if r.ReadOnly {
		return readonly.New(store)
	}
	return store
}
