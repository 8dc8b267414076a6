package s3

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

func (a *awsBucket) versioning(ctx context.Context) (bool, error) {
	out, err := a.client.GetBucketVersioning(ctx, &awss3.GetBucketVersioningInput{Bucket: &a.at.Bucket})
	if err != nil {
		return false, failure(ctx, err)
	}
	return out.Status == types.BucketVersioningStatusEnabled, nil
}

func (a *awsBucket) retention(ctx context.Context) (string, error) {
	out, err := a.client.GetObjectLockConfiguration(ctx, &awss3.GetObjectLockConfigurationInput{Bucket: &a.at.Bucket})
	if err != nil {
		return "", failure(ctx, err)
	}
	c := out.ObjectLockConfiguration
	if c == nil || c.Rule == nil || c.Rule.DefaultRetention == nil {
		return "", nil
	}
	r := c.Rule.DefaultRetention
	return fmt.Sprintf("%s for %d days", r.Mode, aws.ToInt32(r.Days)+365*aws.ToInt32(r.Years)), nil
}

func (a *awsBucket) encryption(ctx context.Context) (string, error) {
	out, err := a.client.GetBucketEncryption(ctx, &awss3.GetBucketEncryptionInput{Bucket: &a.at.Bucket})
	if err != nil {
		return "", failure(ctx, err)
	}
	if out.ServerSideEncryptionConfiguration == nil {
		return "", nil
	}
	for _, r := range out.ServerSideEncryptionConfiguration.Rules {
		if d := r.ApplyServerSideEncryptionByDefault; d != nil {
			return string(d.SSEAlgorithm), nil
		}
	}
	return "", nil
}

func (a *awsBucket) rules(ctx context.Context) ([]rule, error) {
	out, err := a.client.GetBucketLifecycleConfiguration(ctx, &awss3.GetBucketLifecycleConfigurationInput{Bucket: &a.at.Bucket})
	if err != nil {
		return nil, failure(ctx, err)
	}
	var rules []rule
	for i := range out.Rules {
		if r := &out.Rules[i]; r.Status == types.ExpirationStatusEnabled {
			rules = append(rules, ruleOf(r))
		}
	}
	return rules, nil
}

func ruleOf(from *types.LifecycleRule) rule {
	r := rule{ID: aws.ToString(from.ID), Prefix: aws.ToString(from.Prefix)} //nolint:staticcheck // old rules have it there
	if f := from.Filter; f != nil {
		r.Prefix += aws.ToString(f.Prefix)
		r.OnTagged = f.Tag != nil
		if f.And != nil {
			r.Prefix += aws.ToString(f.And.Prefix)
			r.OnTagged = len(f.And.Tags) > 0
		}
	}
	if e := from.Expiration; e != nil {
		r.Removes = aws.ToInt32(e.Days) > 0 || e.Date != nil // else it's about marks of what was removed
	}
	for _, t := range from.Transitions {
		if r.Moves = string(t.StorageClass); isCold(r.Moves) {
			break
		}
	}
	r.OldOnes = from.NoncurrentVersionExpiration != nil
	return r
}
