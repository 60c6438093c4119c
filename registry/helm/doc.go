// Package helm reads the index.yaml of chart repositories
// (https://helm.sh/docs/topics/chart_repository/).
package helm
