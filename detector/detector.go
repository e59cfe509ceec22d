// Package detector holds the rule and decides. It owns what a sign-in is (SignIn), the
// rule with its terms, window and metadata (Rule), KQL's term matching, the allowlist, the
// verdict and the alert.
//
// It is pure: no clock, no files, no Kafka, and it imports nothing of ours. What a user's
// past looks like it asks through History.
//
// Start at Detector.Judge: the one function that decides and teaches, for run, replay and
// whatever explains them.
package detector
