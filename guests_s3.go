//go:build !nos3

package ociregistry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/caddy-oci/oci-registry/internal/option"
	"github.com/caddy-oci/oci-registry/storage"
	"github.com/caddy-oci/oci-registry/storage/s3"
)

func init() {
	caddy.RegisterModule(S3Storage{})
	storeSchemes["s3"] = openBucket
	storeSchemes["zot+s3"] = openZot
}

// S3Storage keeps content in a bucket of an object store that speaks S3. Any
// number of processes may serve one bucket. All texts may have placeholders like
// {env.NAME} and {file./path}.
type S3Storage struct {
	// Bucket is the bucket's name. It has to exist. Required.
	Bucket string `json:"bucket,omitempty"`

	// Region is the bucket's. Default: what AWS's environment says, else us-east-1.
	Region string `json:"region,omitempty"`

	// Endpoint is the URL of the store. Default: AWS.
	Endpoint string `json:"endpoint,omitempty"`

	// Prefix is what all keys begin with. Default: none.
	Prefix string `json:"prefix,omitempty"`

	// CA is a file with further certificates, as PEM, that may vouch for the store.
	// Default: the system's alone.
	CA string `json:"ca,omitempty"`

	// PathStyle puts the bucket into the path, not the host. Default: false.
	PathStyle bool `json:"path_style,omitempty"`

	// AccessKey and SecretKey are who asks. Default: AWS's usual chain.
	AccessKey string `json:"access_key,omitempty"`
	SecretKey string `json:"secret_key,omitempty"`

	// Encryption is how the store is to encrypt: AES256 or aws:kms, with KMSKey.
	// Default: as the bucket is set up.
	Encryption string `json:"encryption,omitempty"`
	KMSKey     string `json:"kms_key,omitempty"`

	// StorageClass is that of blobs. Default: the bucket's.
	StorageClass string `json:"storage_class,omitempty"`

	// PartSize is how large the parts of large blobs are, in bytes. Default: 16 MiB.
	PartSize int64 `json:"part_size,omitempty"`

	// Concurrency is how many parts of one blob are sent at once, up to 64. Default: 4.
	Concurrency int `json:"concurrency,omitempty"`

	// RetryFor is how long a call that fails is tried again. Default: 20s.
	RetryFor caddy.Duration `json:"retry_for,omitempty"`

	// TagsFreshFor is how old the knowledge may be by which a tag is resolved. Default:
	// 0, the store is asked for each pull by tag.
	TagsFreshFor caddy.Duration `json:"tags_fresh_for,omitempty"`

	// Redirect is off, always, or a size from which on clients are sent to the
	// store for blobs. Default: off.
	Redirect string `json:"redirect,omitempty"`

	// RedirectLife is how long they may begin to fetch. Default: 20m.
	RedirectLife caddy.Duration `json:"redirect_life,omitempty"`

	// PublicEndpoint is the URL of the store as clients reach it. Default: Endpoint.
	PublicEndpoint string `json:"public_endpoint,omitempty"`

	// SingleWriter is for stores that don't keep conditions of writes. No other
	// process may write to the bucket then. Default: false.
	SingleWriter bool `json:"single_writer,omitempty"`

	at           s3.Location
	prefix       string
	redirectFrom int64 // bytes; 0 for off
	readOnly     bool
	command      bool // that opens it, and has the content that it writes
	log          *slog.Logger
}

// CaddyModule implements caddy.Module.
func (S3Storage) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "oci_registry.storage.s3", New: func() caddy.Module { return new(S3Storage) }}
}

// Provision replaces placeholders. It asks nobody.
func (s *S3Storage) Provision(ctx caddy.Context) error {
	s.log = ctx.Slogger()
	s.at.PathStyle = s.PathStyle
	var ca string
	for _, o := range []struct {
		name, value string
		to          *string
	}{
		{"bucket", s.Bucket, &s.at.Bucket},
		{"region", s.Region, &s.at.Region},
		{"endpoint", s.Endpoint, &s.at.Endpoint},
		{"public_endpoint", s.PublicEndpoint, &s.at.PublicEndpoint},
		{"ca", s.CA, &ca},
		{"prefix", s.Prefix, &s.prefix},
		{"access_key", s.AccessKey, &s.at.AccessKey},
		{"secret_key", s.SecretKey, &s.at.SecretKey},
		{"encryption", s.Encryption, &s.at.Encryption},
		{"kms_key", s.KMSKey, &s.at.KMSKey},
		{"storage_class", s.StorageClass, &s.at.StorageClass},
	} {
		value, err := option.Resolve(o.name, o.value)
		if err != nil {
			return err
		}
		*o.to = strings.TrimSpace(value) // a file ends in a line feed
	}
	option.WarnOfSecret(s.log, "storage s3: secret_key", s.SecretKey, s.at.SecretKey)
	s.prefix = strings.Trim(s.prefix, "/")
	var err error
	if s.at.RootCAs, err = option.RootsWith(ca); err != nil {
		return err
	}
	if s.redirectFrom, err = parseRedirect(s.Redirect); err != nil {
		return err
	}
	return errors.Join(s.check(), s.checkRedirect())
}

// parseRedirect returns from which size on clients are redirected; 0 for never.
func parseRedirect(word string) (int64, error) {
	switch word {
	case "", "off":
		return 0, nil
	case "always":
		return 1, nil
	}
	n, err := humanize.ParseBytes(word)
	if err != nil || n == 0 || n > math.MaxInt64 {
		return 0, fmt.Errorf("redirect %q: want off, always, or a size like 1MiB from which on clients are redirected", word)
	}
	return int64(n), nil
}

// check refuses what can't be meant.
func (s *S3Storage) check() error {
	switch {
	case s.at.Bucket == "":
		return errors.New("storage s3 has no bucket: write 'bucket NAME' in its block")
	case (s.at.AccessKey == "") != (s.at.SecretKey == ""):
		return errors.New("storage s3 has one of access_key and secret_key: give both, or neither for AWS's usual chain")
	case s.at.Endpoint != "" && !isURL(s.at.Endpoint):
		return fmt.Errorf("endpoint %q: want https://host or http://host", s.at.Endpoint)
	case s.Concurrency < 0 || s.Concurrency > 64:
		return fmt.Errorf("concurrency is %d: want 1 to 64 parts of a blob at once; 0 is the default", s.Concurrency)
	case s.RetryFor < 0 || s.TagsFreshFor < 0:
		return errors.New("retry_for and tags_fresh_for are durations like 20s, and not negative")
	case s.PartSize != 0 && s.PartSize < leastPart:
		return fmt.Errorf("part_size is %d: S3 takes no parts of less than 5MiB", s.PartSize)
	}
	return nil
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && (u.Scheme == "https" || u.Scheme == "http")
}

// checkRedirect refuses what can't be meant of redirects.
func (s *S3Storage) checkRedirect() error {
	public, life := s.at.PublicEndpoint, time.Duration(s.RedirectLife)
	switch {
	case s.redirectFrom == 0 && (public != "" || life != 0):
		return errors.New("public_endpoint and redirect_life are for redirects, which are off: add 'redirect always', or leave them out")
	case public != "" && !isURL(public):
		return fmt.Errorf("public_endpoint %q: want https://host or http://host", public)
	case life != 0 && (life < time.Minute || life > 7*24*time.Hour):
		return fmt.Errorf("redirect_life is %v: want one minute to seven days, which is what S3 signs for", life)
	}
	return nil
}

// leastPart is the least that S3 takes as a part that isn't the last, in bytes.
const leastPart = 5 << 20

// Identity implements Backend.
func (s *S3Storage) Identity() string {
	return strings.Join([]string{cmp.Or(s.at.Endpoint, "aws"), s.at.Bucket, s.prefix}, " ")
}

// Open implements Backend.
func (s *S3Storage) Open(ctx context.Context) (storage.Store, error) {
	return s3.Open(ctx, s.at, s.options())
}

// Tune implements Backend.
func (s *S3Storage) Tune(store storage.Store) {
	if to, ok := storage.As[*s3.Store](store); ok {
		to.Tune(s.options())
		if err := to.Reach(context.Background(), s.at); err != nil {
			s.log.Error("the bucket is reached as before", "error", err)
		}
	}
}

// What a process may hold of blobs on their way to buckets, however many there are.
// More of it makes nothing faster for a command but the stores' answers slower.
var (
	serverMemory  = s3.NewBudget(256 << 20)
	commandMemory = s3.NewBudget(128 << 20)
)

func (s *S3Storage) options() s3.Options {
	o := s3.Options{
		Prefix: s.prefix, PartSize: s.PartSize, PartsAtOnce: s.Concurrency, SingleWriter: s.SingleWriter,
		RetryFor: time.Duration(s.RetryFor), TagsFreshFor: time.Duration(s.TagsFreshFor),
		RedirectFrom: s.redirectFrom, RedirectLife: time.Duration(s.RedirectLife),
		ReadOnly: s.readOnly, Log: s.log, Memory: serverMemory,
	}
	if s.command {
		o.Memory, o.AwaitMemory = commandMemory, true
	}
	return o
}

// onlyRead implements readOnlyBackend: to probe a store takes writing.
func (s *S3Storage) onlyRead() { s.readOnly = true }

// byCommand implements commanded.
func (s *S3Storage) byCommand(write bool) { s.readOnly, s.command = !write, true }

// UnmarshalCaddyfile parses
//
//	storage s3 {
//		bucket NAME
//		region NAME
//		endpoint URL
//		prefix PREFIX
//		ca FILE
//		path_style
//		access_key KEY
//		secret_key KEY
//		encryption NAME
//		kms_key NAME
//		storage_class NAME
//		part_size SIZE
//		concurrency N
//		retry_for DURATION
//		tags_fresh_for DURATION
//		redirect off|always|SIZE
//		redirect_life DURATION
//		public_endpoint URL
//		single_writer
//	}
func (s *S3Storage) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	return option.Block(d, s.caddyfileOptions())
}

func (s *S3Storage) caddyfileOptions() option.Set {
	return option.Set{
		"bucket":          option.Text(&s.Bucket, "VALUE"),
		"region":          option.Text(&s.Region, "VALUE"),
		"endpoint":        option.Text(&s.Endpoint, "VALUE"),
		"prefix":          option.Text(&s.Prefix, "VALUE"),
		"ca":              option.Text(&s.CA, "VALUE"),
		"path_style":      option.Flag(&s.PathStyle),
		"access_key":      option.Text(&s.AccessKey, "VALUE"),
		"secret_key":      option.Text(&s.SecretKey, "VALUE"),
		"encryption":      option.Text(&s.Encryption, "VALUE"),
		"kms_key":         option.Text(&s.KMSKey, "VALUE"),
		"storage_class":   option.Text(&s.StorageClass, "VALUE"),
		"part_size":       option.Size(&s.PartSize),
		"concurrency":     option.Number(&s.Concurrency),
		"retry_for":       option.Duration(&s.RetryFor),
		"tags_fresh_for":  option.Duration(&s.TagsFreshFor),
		"redirect":        option.Checked(&s.Redirect, func(word string) error { _, err := parseRedirect(word); return err }),
		"redirect_life":   option.Duration(&s.RedirectLife),
		"public_endpoint": option.Text(&s.PublicEndpoint, "VALUE"),
		"single_writer":   option.Flag(&s.SingleWriter),
	}
}

// openBucket opens what a URL says: s3://BUCKET/PREFIX?region=…&endpoint=… and so on.
func openBucket(ctx context.Context, u *url.URL, write bool) (storage.Store, error) {
	s, err := bucketOf(u)
	if err != nil {
		return nil, err
	}
	s.byCommand(write)
	return s.Open(ctx)
}

// openZot opens the bucket of a zot, which is only read.
func openZot(ctx context.Context, u *url.URL, _ bool) (storage.Store, error) {
	s, err := bucketOf(u)
	if err != nil {
		return nil, err
	}
	return s3.OpenLayouts(ctx, s.at, s.prefix)
}

func bucketOf(u *url.URL) (*S3Storage, error) {
	s := &S3Storage{Bucket: u.Host, Prefix: u.Path}
	for option, values := range u.Query() {
		value := values[len(values)-1]
		switch option {
		case "region":
			s.Region = value
		case "endpoint":
			s.Endpoint = value
		case "path_style":
			s.PathStyle = value == "true"
		case "single_writer":
			s.SingleWriter = value == "true"
		default:
			return nil, fmt.Errorf("option %s: want region, endpoint, path_style=true or single_writer=true", option)
		}
	}
	return s, s.Provision(caddy.Context{})
}

var (
	_ Backend               = (*S3Storage)(nil)
	_ readOnlyBackend       = (*S3Storage)(nil)
	_ commanded             = (*S3Storage)(nil)
	_ caddy.Provisioner     = (*S3Storage)(nil)
	_ caddyfile.Unmarshaler = (*S3Storage)(nil)
)
