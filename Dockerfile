# prtwatch alone: one static binary, as nobody, in an image without a shell.
#
#   docker build -t prtwatch --build-arg VERSION=$(git describe --tags --always --dirty) --build-arg COMMIT=$(git rev-parse HEAD) .
#   docker run --rm prtwatch demo --for 20s
#
# deploy/image/build makes it for both architectures, with a list of what is inside (SBOM).
ARG GO_IMAGE=golang:1.26-bookworm

# Go compiles for the other architecture itself: nothing is emulated.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
ENV GOMODCACHE=/cache/modules GOCACHE=/cache/build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/cache/modules go mod download
COPY . .
ARG VERSION="" COMMIT="" TARGETOS TARGETARCH
RUN --mount=type=cache,target=/cache/modules --mount=type=cache,target=/cache/build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
        -ldflags "-s -w -X main.version=$VERSION -X main.commit=$COMMIT" -o /image/prtwatch ./cmd/prtwatch \
    && mkdir -p /image/etc/ssl/certs /image/var/lib/prtwatch \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && chown 65534:65534 /image/var/lib/prtwatch

FROM scratch
ARG VERSION="" COMMIT=""
LABEL org.opencontainers.image.title="prtwatch" \
      org.opencontainers.image.description="Says within a second when a stolen refresh token of Entra ID is used" \
      org.opencontainers.image.source="https://github.com/prtwatch/prtwatch" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$COMMIT"
COPY --from=build /image /
# Nobody. All that it writes is the state; the root may be read-only.
USER 65534:65534
ENV PRTWATCH_STATE__DIR=/var/lib/prtwatch
WORKDIR /var/lib/prtwatch
VOLUME /var/lib/prtwatch
EXPOSE 9187
# Of `run`. For other commands switch it off.
HEALTHCHECK --interval=5s --timeout=3s --start-period=2m --retries=3 CMD ["/prtwatch", "ready"]
ENTRYPOINT ["/prtwatch"]
CMD ["run"]
