# Both images of the project: `docker build --target manager .` (the default)
# and `docker build --target flag-service .`.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=unknown
WORKDIR /src
# The modules change less often than the code: a layer of their own keeps them.
COPY go.mod go.sum ./
RUN go mod download
COPY api/ api/
COPY cmd/ cmd/
COPY controllers/ controllers/
COPY service/ service/
RUN mkdir /out && CGO_ENABLED=0 GOOS=${TARGETOS:-linux} GOARCH=${TARGETARCH} \
    go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/ ./cmd/manager ./cmd/flag-service

FROM gcr.io/distroless/static:nonroot AS flag-service
COPY --from=build /out/flag-service /flag-service
USER 65532:65532
ENTRYPOINT ["/flag-service"]

FROM gcr.io/distroless/static:nonroot AS manager
COPY --from=build /out/manager /manager
USER 65532:65532
ENTRYPOINT ["/manager"]
