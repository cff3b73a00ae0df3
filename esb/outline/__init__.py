"""What a workspace says of itself: in plain words, as a graph, as OpenAPI and AsyncAPI, as a site of pages."""
