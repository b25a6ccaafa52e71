"""What Bulkhead's system tests are made of: namespaces, VMMs, front-ends, the product, and the report."""
