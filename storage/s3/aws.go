package s3

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"
)

// Location says where a bucket is, and who asks.
type Location struct {
	// Bucket exists.
	Bucket string

	// Region is the bucket's. Default: what the environment says, else us-east-1.
	Region string

	// Endpoint is the URL of the store. Default: AWS in this region.
	Endpoint string

	// PublicEndpoint is the URL of the store as clients of the registry reach it,
	// for redirects. Default: Endpoint.
	PublicEndpoint string

	// PathStyle puts the bucket into the path, and not into the host's name.
	PathStyle bool

	// AccessKey and SecretKey, with a SessionToken if they are borrowed. Default:
	// AWS's usual chain of environment, files, and what the machine is given.
	AccessKey, SecretKey, SessionToken string

	// RootCAs are who may vouch for the endpoint. Default: the system's.
	RootCAs *x509.CertPool

	// Encryption is AES256, aws:kms or another one that the store knows. Default:
	// the bucket's. KMSKey is the key that aws:kms uses. Default: the account's.
	Encryption, KMSKey string

	// StorageClass is that of blobs. Default: the bucket's.
	StorageClass string
}

// awsBucket is a bucket through AWS's client, which tries nothing again by itself.
type awsBucket struct {
	client    *awss3.Client
	links     *awss3.PresignClient
	transport *http.Transport
	at        Location
}

func (a *awsBucket) close() { a.transport.CloseIdleConnections() }

func newAWS(ctx context.Context, at Location) (*awsBucket, error) {
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(tune, trust(at.RootCAs))),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		// Stores that aren't AWS don't know the checksums that it would add by itself.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
		config.WithDefaultRegion("us-east-1"),
		config.WithLogger(logging.Nop{}), // what it says is in errors too
	}
	if at.Region != "" {
		load = append(load, config.WithRegion(at.Region))
	}
	if at.AccessKey != "" {
		fixed := credentials.NewStaticCredentialsProvider(at.AccessKey, at.SecretKey, at.SessionToken)
		load = append(load, config.WithCredentialsProvider(fixed))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("s3: configuration: %w", err)
	}
	through := transport(cfg)
	cfg.HTTPClient = &http.Client{Transport: through} // one whose connections can be closed
	return &awsBucket{
		client: clientAt(cfg, at, at.Endpoint), transport: through, at: at,
		links: awss3.NewPresignClient(clientAt(cfg, at, cmp.Or(at.PublicEndpoint, at.Endpoint))),
	}, nil
}

func clientAt(cfg aws.Config, at Location, endpoint string) *awss3.Client {
	return awss3.NewFromConfig(cfg, func(o *awss3.Options) {
		o.UsePathStyle = at.PathStyle
		o.BaseEndpoint = some(endpoint)
	})
}

// tune makes a transport give up on what doesn't answer: a call that hangs can't
// be tried again.
func tune(t *http.Transport) {
	t.DialContext = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	t.TLSHandshakeTimeout = 5 * time.Second
	t.ResponseHeaderTimeout = 15 * time.Second
	t.IdleConnTimeout = 50 * time.Second
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 256, 256
	t.WriteBufferSize, t.ReadBufferSize = 64<<10, 64<<10
}

func trust(roots *x509.CertPool) func(*http.Transport) {
	return func(t *http.Transport) {
		if roots != nil {
			t.TLSClientConfig.RootCAs = roots.Clone() // $AWS_CA_BUNDLE adds to it
		}
	}
}

// transport is the one of a configuration: ours, with what the environment says
// of certificates.
func transport(cfg aws.Config) *http.Transport {
	if c, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		return c.GetTransport()
	}
	t := &http.Transport{}
	tune(t)
	return t
}

func (a *awsBucket) get(ctx context.Context, what getRequest) (*gotten, error) {
	in := &awss3.GetObjectInput{Bucket: &a.at.Bucket, Key: &what.Key, IfNoneMatch: some(what.IfNoneMatch)}
	switch {
	case what.Length > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", what.Offset, what.Offset+what.Length-1))
	case what.Offset > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", what.Offset))
	}
	out, err := a.client.GetObject(ctx, in)
	if err != nil {
		return nil, failure(ctx, err)
	}
	return &gotten{out.Body, aws.ToString(out.ETag)}, nil
}

// some is nil for what isn't given.
func some(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (a *awsBucket) stat(ctx context.Context, key string) (listed, error) {
	out, err := a.client.HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &a.at.Bucket, Key: &key})
	if err != nil {
		return listed{}, failure(ctx, err)
	}
	return listed{key, aws.ToInt64(out.ContentLength), aws.ToTime(out.LastModified)}, nil
}

func (a *awsBucket) list(ctx context.Context, prefix, after string) (page []listed, more bool, err error) {
	out, err := a.client.ListObjectsV2(ctx, &awss3.ListObjectsV2Input{
		Bucket: &a.at.Bucket, Prefix: &prefix, StartAfter: some(after), MaxKeys: aws.Int32(1000),
	})
	if err != nil {
		return nil, false, failure(ctx, err)
	}
	page = make([]listed, len(out.Contents))
	for i, o := range out.Contents {
		page[i] = listed{aws.ToString(o.Key), aws.ToInt64(o.Size), aws.ToTime(o.LastModified)}
	}
	return page, aws.ToBool(out.IsTruncated), nil
}

// put tells the store what the sha256 of the body is, so that it takes no other
// one. The same sum signs the request.
func (a *awsBucket) put(ctx context.Context, what putRequest) (string, error) {
	sum := what.Sum
	if sum == nil {
		all := sha256.Sum256(what.Body)
		sum = all[:]
	}
	in := &awss3.PutObjectInput{
		Bucket: &a.at.Bucket, Key: &what.Key, Body: bytes.NewReader(what.Body),
		ChecksumSHA256:       aws.String(base64.StdEncoding.EncodeToString(sum)),
		IfMatch:              some(what.IfMatch),
		ServerSideEncryption: types.ServerSideEncryption(a.at.Encryption),
		SSEKMSKeyId:          some(a.at.KMSKey),
	}
	if what.IfAbsent {
		in.IfNoneMatch = aws.String("*")
	}
	if what.Blob {
		in.StorageClass = types.StorageClass(a.at.StorageClass)
	}
	out, err := a.client.PutObject(v4.SetPayloadHash(ctx, hex.EncodeToString(sum)), in)
	if err != nil {
		return "", failure(ctx, err)
	}
	return aws.ToString(out.ETag), nil
}

func (a *awsBucket) remove(ctx context.Context, keys ...string) error {
	if len(keys) == 1 {
		_, err := a.client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &a.at.Bucket, Key: &keys[0]})
		return failure(ctx, err)
	}
	objects := make([]types.ObjectIdentifier, len(keys))
	for i := range keys {
		objects[i].Key = &keys[i]
	}
	out, err := a.client.DeleteObjects(ctx, &awss3.DeleteObjectsInput{
		Bucket: &a.at.Bucket, Delete: &types.Delete{Objects: objects, Quiet: aws.Bool(true)},
	})
	if err != nil {
		return failure(ctx, err)
	}
	var errs []error
	for _, e := range out.Errors {
		errs = append(errs, fmt.Errorf("%w: remove %s: %s: %s",
			kindOf(0, aws.ToString(e.Code)), aws.ToString(e.Key), aws.ToString(e.Code), aws.ToString(e.Message)))
	}
	return errors.Join(errs...)
}
